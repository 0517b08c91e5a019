"""What the value of a key means (PS3.4 C.2.2.2): read once, from an Identifier or from an item in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cluster.dicom.elements import Element, Elements
from cluster.dicom.items import items_of
from storage_node.catalogue import names
from storage_node.catalogue.attributes import SINGLE_VALUED, Attribute, normal
from storage_node.catalogue.headers import inside, offset_of, text_of
from storage_node.catalogue.keys import Alike, Combined, Empty, Items, Key, Like, OneOf, Within
from storage_node.catalogue.levels import attribute_of, has_several_values
from storage_node.catalogue.moments import RANGED, ends_of, is_single, last_of, zoned

NO_KEYS: Final = frozenset((0x00080005, 0x00080052, 0x00080053, 0x00080201))
"""What is in an Identifier, yet is no key: character set, level, view, Timezone Offset From UTC."""

_WILD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""Value Representations whose keys may hold wild cards (PS3.4 C.2.2.2.4)."""
_MULTIPLE_VRS: Final = frozenset(("AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"))
"""Value Representations whose keys may ask for several values at once (PS3.4 C.2.2.2.8)."""
_ITEM: Final = b"\xfe\xff\x00\xe0"
_DEPTH_LIMIT: Final = 16
_PATTERNS_LIMIT: Final = 64
"""How many values of a key may have wild cards: each is looked for by itself."""
_WORDS_LIMIT: Final = 16
"""How many words a name may have that is matched by them: no name has more."""
_EMPTY: Final = '""'
_FORMS: Final = {"DA": "date", "TM": "time", "DT": "date-time"}

_TIMES: Final = {
    0x00080012: 0x00080013,
    0x00080020: 0x00080030,
    0x00080021: 0x00080031,
    0x00080022: 0x00080032,
    0x00080023: 0x00080033,
    0x00100030: 0x00100032,
    0x00400002: 0x00400003,
    0x00400244: 0x00400245,
    0x00400250: 0x00400251,
}
"""Dates, each with the time that belongs to it."""


class BadIdentifier(Exception):
    """An Identifier that does not fit its SOP class (0xA900); the message fits into an Error Comment."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was agreed on with the one who asks: SOP Class Extended Negotiation (PS3.4 C.5), AE settings."""

    relational_queries: bool = False
    """Keys of any level may be given at any level, and unique keys of upper levels left out (C.4.1.2.2.1)."""
    combined_date_time: bool = False
    """A range of dates with a range of times is one range of moments (C.2.2.2.5)."""
    fuzzy_names: bool = False
    """Names are matched by their words, which may begin so or have an error in them (C.2.2.2.1)."""
    empty_values: bool = False
    """Two quotation marks match what has no value (C.2.2.2.7)."""
    multiple_values: bool = False
    """Several values of a key match what has all of them (C.2.2.2.8)."""
    lenient_levels: bool = False
    """Unique keys of upper levels may be missing."""


STRICT: Final = Agreed()
"""Nothing was agreed on."""


def keys_of(attribute: Attribute, elements: Elements, agreed: Agreed, depth: int = 0) -> tuple[Key, ...]:
    """Return what the value of an attribute asks, in keys that must all match; none if it is universal.

    Raises
    ------
    BadIdentifier
        A date, a time or a range of these is malformed, a sequence has more than one item or is nested too
        deep, or there are too many wild cards.
    """
    vr = attribute.vr
    if vr == "SQ":
        return _items(attribute, elements, agreed, depth)
    value = text_of(elements, attribute)
    if agreed.empty_values and value == _EMPTY:
        return (Empty(attribute),)
    if vr in RANGED:
        return _moments(attribute, value, offset_of(elements))
    single = [value] if vr in SINGLE_VALUED else value.split("\\")
    values = [re.sub(r"\*+", "*", normal(vr, one)) for one in single]
    return _texts(attribute, [one for one in values if one], agreed)


def combined(keys: Sequence[Key], agreed: Agreed) -> tuple[Key, ...]:
    """Return keys of which each range of dates is one with that of its times, where that was agreed on.

    Both must be open at the same end, or at none.

    Raises
    ------
    BadIdentifier
        A range that is left ends before it begins.
    """
    ranges = {key.attribute.tag: key for key in keys if isinstance(key, Within)}
    joined: list[Key] = []
    taken: set[int] = set()
    for tag, date in ranges.items() if agreed.combined_date_time else ():
        time = ranges.get(_TIMES.get(tag, tag))
        if time is not None and time is not date and _are_open_alike(date, time):
            ends = [a and f"{a}{b}" for a, b in ((date.first, time.first), (date.last, time.last))]
            joined.append(Combined(date.attribute, time.attribute, *ends))
            taken |= {tag, time.attribute.tag}
    left = [key for key in keys if key.attribute.tag not in taken]
    for key in (*joined, *left):
        if isinstance(key, Within | Combined) and key.first and key.last and key.first > key.last:
            raise BadIdentifier(f"{name_of(key.attribute)}: its range is reversed")
    return (*left, *joined)


def name_of(attribute: Attribute) -> str:
    """Return what an attribute is called in an Error Comment."""
    tag = attribute.tag
    if not attribute.column:
        return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    words = attribute.column.split("_")
    return " ".join({"uid": "UID", "id": "ID", "sop": "SOP"}.get(word, word.title()) for word in words)


def is_universal(element: Element) -> bool:
    """Whether a key asks nothing: it has no value, wild cards alone, or items whose keys ask nothing."""
    left = [element]
    while left:
        element = left.pop()
        if element.value.startswith(_ITEM):
            left += (nested for item in items_of(element) for nested in item.values())
        elif element.value.strip(b" \0*"):
            return False
    return True


def is_understood(element: Element) -> bool:
    """Whether nothing in the items of a key is asked for that is not matched."""
    return not element.value.startswith(_ITEM) or all(
        is_universal(nested) if attribute_of(tag) is None else is_understood(nested)
        for item in items_of(element)
        for tag, nested in item.items()
        if tag not in NO_KEYS
    )


def _texts(attribute: Attribute, values: Sequence[str], agreed: Agreed) -> tuple[Key, ...]:
    vr = attribute.vr
    is_wild = vr in _WILD_VRS and any(c in value for value in values for c in "*?")
    if vr == "PN" and is_wild:
        values = [form for value in values for form in _without_empty_components(value)]
    if not values or "*" in values:
        return ()
    if len(values) > _PATTERNS_LIMIT and is_wild:
        raise BadIdentifier(f"{name_of(attribute)}: more than {_PATTERNS_LIMIT} wild cards")
    if is_wild:
        return (Like(attribute, tuple(values)),)
    if vr == "PN" and agreed.fuzzy_names and len(values) == 1:
        words = names.words(values[0])
        if 0 < len(words) <= _WORDS_LIMIT:
            return (Alike(attribute, words),)
    if agreed.multiple_values and vr in _MULTIPLE_VRS and has_several_values(attribute.tag):
        return tuple(OneOf(attribute, (value,)) for value in values)
    return (OneOf(attribute, tuple(values)),)


def _without_empty_components(pattern: str) -> Iterable[str]:
    """Return a pattern, and what it is without the components at its end that may be empty."""
    yield pattern
    while pattern.endswith("^*"):
        pattern = pattern[:-2]
        yield pattern


def _moments(attribute: Attribute, value: str, offset: str) -> tuple[Key, ...]:
    vr = attribute.vr
    if not value.strip("* "):
        return ()
    ends = ends_of(vr, value)
    if ends is not None:
        first, last = (zoned(vr, end, offset) for end in ends)
        if not first and not last:
            return ()
        last = last_of(vr, last) if last else ""
        return (Within(attribute, normal(vr, first) or None, normal(vr, last) or None),)
    values = [single.strip() for single in value.split("\\")]
    if not all(is_single(vr, single) for single in values):
        raise BadIdentifier(f"{name_of(attribute)}: neither a {_FORMS[vr]} nor a range")
    return (OneOf(attribute, tuple(normal(vr, zoned(vr, single, offset)) for single in values)),)


def _items(attribute: Attribute, elements: Elements, agreed: Agreed, depth: int) -> tuple[Key, ...]:
    if depth == _DEPTH_LIMIT:
        raise BadIdentifier(f"{name_of(attribute)}: nested more than {_DEPTH_LIMIT} deep")
    items = inside(elements, attribute.tag)
    if len(items) > 1:
        raise BadIdentifier(f"{name_of(attribute)}: a key has one item, not {len(items)}")
    keys = [
        key
        for item in items
        for tag in item
        if tag not in NO_KEYS and (nested := attribute_of(tag)) is not None
        for key in keys_of(replace(nested, column=""), item, agreed, depth + 1)
    ]
    return (Items(attribute, combined(keys, agreed)),) if keys else ()


def _are_open_alike(one: Within, other: Within) -> bool:
    return (one.first is None, one.last is None) == (other.first is None, other.last is None)
