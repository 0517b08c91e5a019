"""Raw elements of a header: kept as they came, packed small, and decoded only when somebody asks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container, Mapping
from typing import Final, NamedTuple, TypeAlias


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

_VR_NAMES: Final[dict[bytes, str | None]] = {
    _IMPLICIT: None,
    **{vr.encode(): vr for vr in VR_OF_16_BIT_LENGTH | VR_OF_32_BIT_LENGTH},
}

_CODECS: Final = {
    "": "latin_1",
    "ISO_IR 6": "latin_1",
    "ISO_IR 100": "latin_1",
    "ISO_IR 192": "utf_8",
    "ISO 2022 IR 6": "latin_1",
    "ISO 2022 IR 100": "latin_1",
}
"""Character sets that need no table of pydicom's; Latin-1 decodes any byte, and is often meant by none."""

_ESCAPE: Final = b"\x1b"


def text(elements: Elements, tag: int) -> str | None:
    """Return the value of a text element, decoded, without the padding around it.

    What cannot be decoded becomes U+FFFD; a character set that is not known is taken for Latin-1.

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
    if value.isascii() and _ESCAPE not in value:
        return value.decode("ascii").strip(" \0")
    terms = character_sets(elements)
    if len(terms) == 1 and terms[0] in _CODECS:
        return value.decode(_CODECS[terms[0]], "replace").strip(" \0")
    return _decode(value, terms).strip(" \0")


def character_sets(elements: Elements) -> tuple[str, ...]:
    """Return the values of Specific Character Set; a single empty one where it is missing."""
    element = elements.get(SPECIFIC_CHARACTER_SET)
    if element is None:
        return ("",)
    return tuple(term.strip(" \0") for term in element.value.decode("latin_1").split("\\"))


def are_known(terms: tuple[str, ...]) -> bool:
    """Whether all character sets are Defined Terms of PS3.3 C.12.1.1.2."""
    if all(term in _CODECS for term in terms):
        return True
    from pydicom.charset import python_encoding

    return all(term in python_encoding for term in terms)


def _decode(value: bytes, terms: tuple[str, ...]) -> str:
    """Decode with code extensions (PS3.5 6.1.2.5), by pydicom's tables and without its warnings."""
    from pydicom.charset import CODES_TO_ENCODINGS, handled_encodings, python_encoding

    first = python_encoding.get(terms[0], "latin_1")
    fragments = value.split(_ESCAPE)
    decoded = [fragments[0].decode(first, "replace")]
    for fragment in fragments[1:]:
        code = next((c for c in CODES_TO_ENCODINGS if (_ESCAPE + fragment).startswith(c)), None)
        if code is None:
            decoded.append(fragment.decode(first, "replace"))
            continue
        codec = CODES_TO_ENCODINGS[code]
        if codec in handled_encodings:
            decoded.append((_ESCAPE + fragment).decode(codec, "replace"))
            continue
        # At a delimiter the initial character set is back, without an escape sequence (PS3.5 6.1.2.5.3).
        rest = fragment[len(code) - 1 :]
        decoded.append(_until_reset(rest, codec, first))
    return "".join(decoded)


def _until_reset(value: bytes, codec: str, first: str) -> str:
    for position, byte in enumerate(value):
        if byte in b"\\^=\r\n\f\t":
            return value[:position].decode(codec, "replace") + value[position:].decode(first, "replace")
    return value.decode(codec, "replace")
