"""Raw elements of a header: kept as they came, packed small, and decoded only when somebody asks."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Container, Mapping
from typing import Final, NamedTuple, TypeAlias

from cluster.dicom.character_sets import DEFAULT, Repertoire, repertoire
from cluster.dicom.iso_2022 import ESCAPE


class Element(NamedTuple):
    """A data element without its tag: its bytes in little-endian order, with their padding."""

    vr: str | None
    """Value Representation; None where it was implicit. What is nested in a sequence is encoded likewise."""
    value: bytes


Elements: TypeAlias = Mapping[int, Element]
"""Elements by tag: group in the upper 16 bits, element number in the lower."""

SPECIFIC_CHARACTER_SET: Final = 0x00080005

PACKED_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Largest size that a packed header may unfold to: what is larger was not written by us."""
VALUE_LIMIT_BYTES: Final = 0xFFFF
"""Largest value that can be packed."""

_FORMAT: Final = b"\x01"
_RECORD: Final = struct.Struct("<I2sH")
_IMPLICIT: Final = b"\0\0"


class PackedHeaderError(ValueError):
    """Bytes that `pack` did not write."""


def pack(elements: Elements) -> bytes:
    """Return elements as bytes that `unpack` reads: a format number, then zlib of one record after another.

    Equal elements give equal bytes, in whatever order they came.

    Parameters
    ----------
    elements : Elements
        No value longer than `VALUE_LIMIT_BYTES`.
    """
    record = _RECORD.pack
    parts: list[bytes] = []
    for tag in sorted(elements):
        vr, value = elements[tag]
        parts += (record(tag, vr.encode("ascii") if vr else _IMPLICIT, len(value)), value)
    return _FORMAT + zlib.compress(b"".join(parts), 1)


def unpack(packed: bytes, wanted: Container[int] | None = None) -> dict[int, Element]:
    """Return the elements that `pack` packed, in the order of their tags.

    Parameters
    ----------
    packed : bytes
    wanted : container of int, optional
        Tags of the only ones that are returned.

    Raises
    ------
    PackedHeaderError
        The bytes are damaged, or of a format that is not known.
    """
    if packed[:1] != _FORMAT:
        raise PackedHeaderError(f"format {packed[:1].hex() or 'missing'} of a packed header is not known")
    inflater = zlib.decompressobj()
    try:
        records = inflater.decompress(packed[1:], PACKED_LIMIT_BYTES)
    except zlib.error as error:
        raise PackedHeaderError(f"a packed header is damaged: {error}") from error
    elements: dict[int, Element] = {}
    record, size, names = _RECORD.unpack_from, _RECORD.size, _VR_NAMES
    position, end = 0, len(records)
    try:
        while position < end:
            tag, vr, length = record(records, position)
            position += size + length
            if wanted is not None and tag not in wanted:
                continue
            name = names[vr] if vr in names else vr.decode("ascii")
            elements[tag] = Element(name, records[position - length : position])
    except (struct.error, UnicodeDecodeError) as error:
        raise PackedHeaderError(f"a packed header is damaged: {error}") from error
    if not inflater.eof or position != end:
        raise PackedHeaderError("a packed header is cut short")
    return elements


VR_OF_16_BIT_LENGTH: Final = frozenset(
    (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
)
"""Value Representations whose length has 16 bits in Explicit VR (PS3.5 7.1.2)."""
VR_OF_32_BIT_LENGTH: Final = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)
"""Value Representations whose length has 32 bits, after two reserved bytes (PS3.5 7.1.2)."""

_VRS: Final = VR_OF_16_BIT_LENGTH | VR_OF_32_BIT_LENGTH
_VR_NAMES: Final[dict[bytes, str | None]] = {
    _IMPLICIT: None,
    **{vr.encode(): vr for vr in _VRS},
}


def text(elements: Elements, tag: int) -> str | None:
    """Return the value of a text element, decoded, without the padding around it.

    What cannot be decoded becomes U+FFFD.

    Parameters
    ----------
    elements : Elements
        With Specific Character Set (0008,0005), if there is one (PS3.3 C.12.1.1.2).
    tag : int

    Returns
    -------
    str or None
        Several values are separated by backslashes; None where there is no such element.
    """
    element = elements.get(tag)
    if element is None:
        return None
    value = element.value
    if value.isascii() and ESCAPE not in value:
        return value.decode("ascii").strip(" \0")
    return repertoire_of(elements).decode(value, vr_of(tag, element)).strip(" \0")


def is_plain(value: bytes) -> bool:
    """Whether a text is the same in all character sets: ISO 646, and no code extensions."""
    return value.isascii() and ESCAPE not in value


def repertoire_of(elements: Elements) -> Repertoire:
    """Return what Specific Character Set (0008,0005) says; the default repertoire where it is missing."""
    element = elements.get(SPECIFIC_CHARACTER_SET)
    return DEFAULT if element is None else repertoire(element.value)


def vr_of(tag: int, element: Element) -> str:
    """Return an element's VR; where it has none that is known, that of PS3.6, the first if there are several.

    UN where PS3.6 does not have it either.
    """
    vr = element.vr
    return vr if vr in _VRS and vr != "UN" else dictionary_vr(tag)


@functools.lru_cache(maxsize=1024)
def dictionary_vr(tag: int) -> str:
    """Return the VR that an attribute has by PS3.6, the first where it may have several; UN if not known."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"
