"""A data set that pydicom has read, in Explicit or Implicit VR Little Endian, no byte of a value changed.

pydicom's own writer decodes each value and encodes it anew: bytes that are no text in the character set that
is named become others, what looks like padding goes, and what is odd is quoted in a warning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from cluster.dicom.elements import VR_OF_32_BIT_LENGTH

_ITEM: Final = 0xFFFEE000
_SEQUENCE_END: Final = 0xFFFEE0DD
_PIXEL_REPRESENTATION: Final = 0x00280103
_UNDEFINED: Final = 0xFFFFFFFF
_LONGEST_OF_16_BIT: Final = 0xFFFE


def encode_items(items: Iterable[Dataset], *, explicit: bool, signed: bool = False) -> bytes:
    """Return the items of a sequence (PS3.5 7.5), each with its length.

    Parameters
    ----------
    items : iterable of Dataset
        As pydicom has read them; no element may have been looked at.
    explicit : bool
        In Explicit VR Little Endian; else Implicit.
    signed : bool
        Whether pixels are signed, where an item does not say: that decides between US and SS.
    """
    parts: list[bytes] = []
    for item in items:
        content = encode(item, explicit=explicit, signed=signed)
        parts += (_header(_ITEM, "", len(content), explicit=False), content)
    return b"".join(parts)


def encode(elements: Dataset, *, explicit: bool, signed: bool = False) -> bytes:
    """Return a data set that pydicom has read; the parameters are those of `encode_items`."""
    # All at once, before pydicom decodes one of them in passing.
    values = {tag: elements.get_item(tag) for tag in sorted(elements.keys())}
    if _PIXEL_REPRESENTATION in values:
        signed = _bytes(values[Tag(_PIXEL_REPRESENTATION)])[:1] == b"\1"
    parts: list[bytes] = []
    for tag, element in values.items():
        if tag.element == 0:
            continue
        vr = element.VR or _vr(values, tag, signed=signed)
        if vr == "SQ":  # of undefined length, by which it is known as one even where its VR is lost
            value, length = encode_items(elements[tag].value, explicit=explicit, signed=signed), _UNDEFINED
        else:
            value = _bytes(element)
            length = _UNDEFINED if getattr(element, "length", 0) == _UNDEFINED else len(value)
        parts += (_header(tag, vr, length, explicit=explicit), value)
        if length == _UNDEFINED:
            parts.append(_header(_SEQUENCE_END, "", 0, explicit=False))
    return b"".join(parts)


def _bytes(element: RawDataElement | DataElement) -> bytes:
    """Return the value of what is no sequence."""
    if isinstance(element, RawDataElement):
        return element.value or b""
    # Specific Character Set: the one that pydicom decodes at once.
    terms = [element.value] if isinstance(element.value, str) else element.value or []
    text = "\\".join(terms)
    return (text + " " * (len(text) % 2)).encode("latin_1")


def _header(tag: int, vr: str, length: int, *, explicit: bool) -> bytes:
    """Return what stands before a value (PS3.5 7.1.2, 7.1.3); what is too long for its VR is UN (6.2.2)."""
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return struct.pack("<HHI", group, number, length)
    if vr in VR_OF_32_BIT_LENGTH or length > _LONGEST_OF_16_BIT:
        code = (vr if vr in VR_OF_32_BIT_LENGTH else "UN").encode("ascii")
        return struct.pack("<HH2sHI", group, number, code, 0, length)
    return struct.pack("<HH2sH", group, number, vr.encode("ascii"), length)


def _vr(elements: Mapping[BaseTag, RawDataElement | DataElement], tag: BaseTag, *, signed: bool) -> str:
    """Return the VR of an element that came without: by PS3.6, or by what is known of its private creator."""
    if tag.is_private_creator:
        return "LO"
    try:
        if not tag.is_private:
            vr = dictionary_VR(tag)
        else:
            creator = _bytes(elements[Tag(tag.group, tag.element >> 8)]).decode("latin_1")
            vr = private_dictionary_VR(tag, creator.strip(" \0"))
    except KeyError:
        return "UN"
    if vr == "US or SS":
        return "SS" if signed else "US"
    return "OW" if " or " in vr else vr
