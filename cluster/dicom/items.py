"""The items of a sequence (PS3.5 7.5), from the bytes that a header keeps of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from cluster.dicom.elements import VR_OF_16_BIT_LENGTH, VR_OF_32_BIT_LENGTH, Element, Elements

_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_UNDEFINED: Final = 0xFFFFFFFF
_DEPTH_LIMIT: Final = 32

_SHORT: Final = struct.Struct("<HHI")
_EXPLICIT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")
_NAMES: Final = {vr.encode(): vr for vr in VR_OF_16_BIT_LENGTH | VR_OF_32_BIT_LENGTH}


class _CutShort(Exception):
    """What is nested cannot be followed any further."""


def items_of(sequence: Element) -> list[Elements]:
    """Return the items of a sequence, each with its elements by tag.

    Parameters
    ----------
    sequence : Element
        With its items as value, in little-endian order. Where it has no VR, or is UN, they are in Implicit
        VR (PS3.5 6.2.2, note 2); a sequence among their elements is an element of that kind again.

    Returns
    -------
    list of Elements
        As far as they can be read: what is malformed ends the list, with what its item has until there.
    """
    found: list[Elements] = []
    try:
        for explicit, begin, end in _items(sequence.value, explicit=sequence.vr not in (None, "UN")):
            elements: dict[int, Element] = {}
            found.append(elements)
            elements.update(_elements(sequence.value, begin, end, explicit))
    except _CutShort:
        pass
    return found


def _items(value: bytes, *, explicit: bool) -> Iterator[tuple[bool, int, int]]:
    position = 0
    while position < len(value):
        tag, length = _short(value, position)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise _CutShort
        begin = position + 8
        end = _end_of_item(value, begin, explicit, 0) if length == _UNDEFINED else begin + length
        yield explicit, begin, min(end, len(value))
        position = end + 8 if length == _UNDEFINED else end


def _elements(value: bytes, position: int, end: int, explicit: bool) -> Iterator[tuple[int, Element]]:
    while position < end:
        tag, vr, length, begin = _header(value, position, explicit)
        stop = begin + length
        after = stop
        if length == _UNDEFINED:
            stop = _end_of_sequence(value, begin, explicit and vr != "UN", 0)
            after = stop + 8
        if stop > end:
            raise _CutShort
        yield tag, Element(vr, value[begin:stop])
        position = after


def _end_of_sequence(value: bytes, position: int, explicit: bool, depth: int) -> int:
    """Return where the delimiter of a sequence of undefined length stands."""
    while True:
        tag, length = _short(value, position)
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM or depth == _DEPTH_LIMIT:
            raise _CutShort
        position += 8
        if length == _UNDEFINED:
            position = _end_of_item(value, position, explicit, depth) + 8
        else:
            position += length


def _end_of_item(value: bytes, position: int, explicit: bool, depth: int) -> int:
    """Return where the delimiter of an item of undefined length stands."""
    while True:
        tag, _ = _short(value, position)
        if tag == _ITEM_END:
            return position
        _, vr, length, begin = _header(value, position, explicit)
        if length == _UNDEFINED:
            position = _end_of_sequence(value, begin, explicit and vr != "UN", depth + 1) + 8
        else:
            position = begin + length


def _short(value: bytes, position: int) -> tuple[int, int]:
    if len(value) - position < 8:
        raise _CutShort
    group, number, length = _SHORT.unpack_from(value, position)
    return group << 16 | number, length


def _header(value: bytes, position: int, explicit: bool) -> tuple[int, str | None, int, int]:
    """Return tag, VR, length, and where the value begins."""
    tag, length = _short(value, position)
    if not explicit:
        return tag, None, length, position + 8
    _, _, code, length = _EXPLICIT.unpack_from(value, position)
    vr = _NAMES.get(code)
    if vr is None:
        raise _CutShort
    if vr not in VR_OF_32_BIT_LENGTH:
        return tag, vr, length, position + 8
    if len(value) - position < 12:
        raise _CutShort
    (length,) = _LONG.unpack_from(value, position + 8)
    return tag, vr, length, position + 12
