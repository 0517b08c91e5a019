"""Data sets for tests, made by hand: so that what is wrong in them is wrong on purpose."""

from __future__ import annotations

import struct
from collections.abc import Iterable

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"

UNDEFINED = 0xFFFFFFFF
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")


def element(tag: int, vr: str, value: bytes, *, syntax: str = EXPLICIT, length: int | None = None) -> bytes:
    """Encode an element, with a length that may be wrong."""
    length = len(value) if length is None else length
    order = ">" if syntax == BIG_ENDIAN else "<"
    group, number = tag >> 16, tag & 0xFFFF
    if syntax == IMPLICIT:
        return struct.pack("<HHI", group, number, length) + value
    if vr.encode() in LONG:
        return struct.pack(f"{order}HH2sHI", group, number, vr.encode(), 0, length) + value
    return struct.pack(f"{order}HH2sH", group, number, vr.encode(), length) + value


def item(content: bytes, *, defined: bool = True, syntax: str = EXPLICIT) -> bytes:
    """Encode an item of a sequence."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    if defined:
        return struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(content)) + content
    end = struct.pack(f"{order}HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack(f"{order}HHI", 0xFFFE, 0xE000, UNDEFINED) + content + end


def sequence(tag: int, items: Iterable[bytes], *, vr: str = "SQ", syntax: str = EXPLICIT) -> bytes:
    """Encode a sequence of undefined length."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    end = struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0)
    return element(tag, vr, b"".join(items), syntax=syntax, length=UNDEFINED) + end


def identity(syntax: str = EXPLICIT) -> tuple[bytes, bytes]:
    """Encode the elements that every instance has: those of group 8, and those that come later."""
    first = element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0", syntax=syntax)
    first += element(0x00080018, "UI", b"1.2.3.1.1\0", syntax=syntax)
    last = element(0x00100020, "LO", b"P1", syntax=syntax)
    last += element(0x0020000D, "UI", b"1.2.3\0", syntax=syntax)
    last += element(0x0020000E, "UI", b"1.2.3.1\0", syntax=syntax)
    return first, last


IDENTITY = ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.1", "1.2.3", "1.2.3.1")


def data_set(between: bytes = b"", after: bytes = b"", *, syntax: str = EXPLICIT) -> bytes:
    """Encode an instance, with more between what is needed, and behind."""
    first, last = identity(syntax)
    return first + between + last + after


def pixels(size: int, *, syntax: str = EXPLICIT) -> bytes:
    """Encode native pixel data."""
    return element(0x7FE00010, "OW", bytes(size), syntax=syntax)


def fragments(*sizes: int) -> bytes:
    """Encode encapsulated pixel data (PS3.5 A.4), Basic Offset Table first."""
    return sequence(0x7FE00010, [item(b""), *(item(b"\xff" * size) for size in sizes)], vr="OB")
