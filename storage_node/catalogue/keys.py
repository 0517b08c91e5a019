"""What a query asks, as values, and what matches it: the reference that every catalogue agrees with."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from storage_node.catalogue import names
from storage_node.catalogue.attributes import Attribute, values_of
from storage_node.catalogue.moments import is_complete

_FIRST_TIME: Final = "000000.000000"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Single value matching and list of UID matching: any of these, exactly (PS3.4 C.2.2.2.1, .2)."""

    attribute: Attribute
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """Wild card matching: any of these patterns, `*` for any characters and `?` for one (PS3.4 C.2.2.2.4)."""

    attribute: Attribute
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """Range matching, both ends belonging to it; None where it is open (PS3.4 C.2.2.2.5)."""

    attribute: Attribute
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Combined:
    """Range matching of a date and a time as one date-time (PS3.4 C.2.2.2.5), if that was agreed on."""

    attribute: Attribute
    """The date."""
    time: Attribute
    first: str | None
    """A date and a time in normal form, one behind the other; None where the range is open."""
    last: str | None


@dataclass(frozen=True, slots=True)
class Empty:
    """Empty value matching: there is no value, or no such attribute (PS3.4 C.2.2.2.7), if agreed on."""

    attribute: Attribute


@dataclass(frozen=True, slots=True)
class Alike:
    """Fuzzy semantic matching of a name (PS3.4 C.2.2.2.1), if agreed on: `names.sounds_like`."""

    attribute: Attribute
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """Sequence matching: at least one item that all of these match (PS3.4 C.2.2.2.6)."""

    attribute: Attribute
    keys: tuple[Key, ...]


Key: TypeAlias = OneOf | Like | Within | Combined | Empty | Alike | Items


def attributes_of(key: Key) -> tuple[Attribute, ...]:
    """Return the attributes that a key is compared with: one, or a date and its time."""
    return (key.attribute, key.time) if isinstance(key, Combined) else (key.attribute,)


def matches(key: Key, stored: str | None, time: str | None = None) -> bool:
    """Whether a key matches a stored attribute: the reference that every catalogue agrees with.

    Parameters
    ----------
    key : Key
        Of any kind but `Items`, which no text decides.
    stored : str or None
        The attribute in normal form, several values apart by backslashes: one that matches is enough.
        An empty value matches no key but `Empty` (universal matching is no key at all).
    time : str or None
        Of a `Combined` key the time that belongs to the date; without one the day begins.
    """
    vr = key.attribute.vr
    values = values_of(vr, stored or "")
    match key:
        case OneOf():
            if vr == "PN":
                return _names_fit(key.values, values, str.__eq__)
            # Who knows a patient by an ID of several values asks for all of them at once.
            return stored in key.values or any(value in key.values for value in values)
        case Like():
            if vr == "PN":
                return _names_fit(key.patterns, values, is_like)
            return any(is_like(pattern, value) for pattern in key.patterns for value in values)
        case Within():
            return any(is_complete(vr, value) and _is_within(key, value) for value in values)
        case Combined():
            times = [of_day for of_day in values_of("TM", time or "") if is_complete("TM", of_day)]
            dates = [date for date in values if is_complete("DA", date)]
            return any(_is_within(key, date + of_day) for date in dates for of_day in times or [_FIRST_TIME])
        case Empty():
            return not values
        case Alike():
            return any(names.sounds_like(key.words, value) for value in values)
        case Items():
            return False


def is_like(pattern: str, value: str) -> bool:
    """Whether a value is like a pattern: in a time that grows with their lengths, whatever the pattern is."""
    if len(pattern) - pattern.count("*") > len(value):
        return False
    first, *others = _pieces(pattern)
    found = first.match(value)
    if found is None:
        return False
    if not others:
        return found.end() == len(value)
    position = found.end()
    *between, last = others
    for piece in between:
        found = piece.search(value, position)
        if found is None:
            return False
        position = found.end()
    rest = len(value) - _width(pattern)
    return rest >= position and last.match(value, rest) is not None


def _width(pattern: str) -> int:
    """Return how many characters the last piece of a pattern stands for."""
    return len(pattern) - pattern.rfind("*") - 1


@functools.lru_cache(maxsize=256)
def _pieces(pattern: str) -> Sequence[re.Pattern[str]]:
    """Return what is between the `*` of a pattern."""
    return [
        re.compile("".join("." if c == "?" else re.escape(c) for c in piece), re.DOTALL)
        for piece in pattern.split("*")
    ]


def _is_within(key: Within | Combined, value: str) -> bool:
    return (key.first is None or key.first <= value) and (key.last is None or value <= key.last)


def _names_fit(asked: Sequence[str], held: Sequence[str], fits: Callable[[str, str], bool]) -> bool:
    return any(names.groups_fit(key, name, fits) for key in asked for name in held)
