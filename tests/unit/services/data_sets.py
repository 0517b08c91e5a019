"""Data sets made by hand, and what a rewriter makes of them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset

from storage_node.services.rewriting import Rewriter

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
SYNTAXES = [EXPLICIT, IMPLICIT, BIG_ENDIAN]
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def read(data_set: bytes, syntax: str) -> Dataset:
    if syntax == DEFLATED:
        data_set = zlib.decompress(data_set, -zlib.MAX_WBITS)
    return read_dataset(BytesIO(data_set), syntax == IMPLICIT, syntax != BIG_ENDIAN)


def raw(data_set: Dataset) -> dict[int, object]:
    return {int(tag): data_set.get_item(tag).value for tag in data_set.keys()}  # noqa: SIM118  # decodes


def element(tag: int, vr: str, value: bytes, syntax: str = EXPLICIT, length: int | None = None) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    group, number = tag >> 16, tag & 0xFFFF
    length = len(value) if length is None else length
    if syntax == IMPLICIT or not vr:
        return struct.pack(f"{order}HHI", group, number, length) + value
    if vr in ("SQ", "UN", "OW", "OB", "UT"):
        return struct.pack(f"{order}HH2sHI", group, number, vr.encode(), 0, length) + value
    return struct.pack(f"{order}HH2sH", group, number, vr.encode(), length) + value


def rewritten(data_set: bytes, texts: dict[int, str], syntax: str = EXPLICIT, size: int = 1 << 20) -> bytes:
    rewriter = Rewriter(syntax, texts)
    pieces = [rewriter.feed(data_set[at : at + size]) for at in range(0, len(data_set), size)]
    return b"".join((*pieces, rewriter.close()))


def item_of(content: bytes, syntax: str) -> bytes:
    return element(ITEM, "", content, syntax)


def undefined_item(content: bytes, syntax: str) -> bytes:
    return element(ITEM, "", b"", syntax, UNDEFINED) + content + element(ITEM_END, "", b"", syntax)
