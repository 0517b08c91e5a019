"""Keys that no column decides: they are matched against the header that is kept of an entity."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from cluster.dicom.elements import (
    SPECIFIC_CHARACTER_SET,
    Element,
    Elements,
    PackedHeaderError,
    text,
    unpack,
)
from cluster.dicom.items import items_of
from storage_node.catalogue.attributes import SINGLE_VALUED, Attribute, normal, normalised
from storage_node.catalogue.corrections import by_tag
from storage_node.catalogue.keys import Combined, Empty, Items, Key, attributes_of, matches
from storage_node.catalogue.moments import zoned

TIMEZONE_OFFSET_FROM_UTC: Final = 0x00080201

_INHERITED: Final = (SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET_FROM_UTC)
"""What holds for the items of a sequence, too, unless they say otherwise (PS3.5 7.5.3)."""

_NUMBERS: Final = {
    "AT": struct.Struct("<HH"),
    "FD": struct.Struct("<d"),
    "FL": struct.Struct("<f"),
    "SL": struct.Struct("<i"),
    "SS": struct.Struct("<h"),
    "SV": struct.Struct("<q"),
    "UL": struct.Struct("<I"),
    "US": struct.Struct("<H"),
    "UV": struct.Struct("<Q"),
}


def are_met(keys: Sequence[Key], header: bytes, corrected: Sequence[tuple[str, str]] = ()) -> bool:
    """Whether a packed header matches all of some keys. One that is damaged has no values.

    Parameters
    ----------
    keys : sequence of Key
    header : bytes
    corrected : sequence of tuple of str
        Texts by tag that count instead of what the header says (`protocol.Match.corrected`).
    """
    if not keys:
        return True
    wanted = {attribute.tag for key in keys for attribute in attributes_of(key)}
    try:
        elements: Elements = unpack(header, wanted.union(_INHERITED))
    except PackedHeaderError:
        elements = {}
    given = by_tag(corrected)
    return all(
        matches(key, normalised(key.attribute.vr, given[key.attribute.tag]))
        if key.attribute.tag in given and not isinstance(key, Items | Combined)
        else _is_met(key, elements)
        for key in keys
    )


def matching_items(key: Items, elements: Elements) -> list[Elements]:
    """Return the items of a sequence that match a key, each with what it inherits from around it."""
    return [item for item in inside(elements, key.attribute.tag) if _are_met(key.keys, item)]


def inside(elements: Elements, tag: int) -> list[Elements]:
    """Return the items of a sequence, each with what holds for it of what is around it."""
    sequence = elements.get(tag)
    if sequence is None:
        return []
    around = {tag: elements[tag] for tag in _INHERITED if tag in elements}
    return [{**around, **item} for item in items_of(sequence)]


def text_of(elements: Elements, attribute: Attribute) -> str:
    """Return the value of an attribute as text, numbers in decimal; several values are apart by backslashes.

    What it has not, or has in another form than its VR says, is an empty text.
    """
    number = _NUMBERS.get(attribute.vr)
    if number is None:
        return text(elements, attribute.tag) or ""
    element = elements.get(attribute.tag)
    if element is None or len(element.value) % number.size:
        return ""
    return "\\".join(_numbers(number, element))


def offset_of(elements: Elements) -> str:
    """Return Timezone Offset From UTC; empty where there is none."""
    return text(elements, TIMEZONE_OFFSET_FROM_UTC) or ""


def _numbers(number: struct.Struct, element: Element) -> Iterator[str]:
    for values in number.iter_unpack(element.value):
        yield str(values[0]) if len(values) == 1 else "".join(f"{half:04X}" for half in values)


def _are_met(keys: Sequence[Key], elements: Elements) -> bool:
    return all(_is_met(key, elements) for key in keys)


def _is_met(key: Key, elements: Elements) -> bool:
    match key:
        case Items():
            return bool(matching_items(key, elements))
        case Empty(attribute) if attribute.vr == "SQ":
            return not inside(elements, attribute.tag)
        case Combined():
            return matches(key, _stored(elements, key.attribute), _stored(elements, key.time))
        case _:
            return matches(key, _stored(elements, key.attribute))


def _stored(elements: Elements, attribute: Attribute) -> str | None:
    """Return an attribute in normal form; None for no value."""
    vr, value = attribute.vr, text_of(elements, attribute)
    if vr in SINGLE_VALUED:
        return normal(vr, value) or None
    offset = offset_of(elements) if vr == "DT" else ""
    values = [normal(vr, zoned(vr, single.strip(), offset)) for single in value.split("\\")]
    return "\\".join(values) if any(values) else None
