"""What a query asks (PS3.4 C.2.2.2), as values: parsed once, and matched by each catalogue in its own way."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cluster.dicom.elements import Elements, text
from cluster.nouns import Level
from storage_node.catalogue.attributes import (
    ATTRIBUTES,
    MODALITIES_IN_STUDY,
    PATIENT_ID,
    SOP_CLASSES_IN_STUDY,
    UNIQUE_KEYS,
    Attribute,
    normal,
    values_of,
)

QUERY_RETRIEVE_LEVEL: Final = 0x00080052

_LEVELS: Final = tuple(Level)
_WILD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""Value Representations whose keys may hold wild cards (PS3.4 C.2.2.2.4)."""
_RANGE_VRS: Final = frozenset(("DA", "TM"))
_RANGE_END: Final = {"DA": "", "TM": "235959.999999"}


class BadIdentifier(Exception):
    """An Identifier that does not fit its SOP class (0xA900); the message fits into an Error Comment."""


class Model(enum.StrEnum):
    """Query/Retrieve information model (PS3.4 C.6)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Its levels, from the top down."""
        return _LEVELS if self is Model.PATIENT else _LEVELS[1:]


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was agreed on with the one who asks: SOP Class Extended Negotiation (PS3.4 C.5), AE settings."""

    relational_queries: bool = False
    """Keys of any level may be given at any level, and unique keys of upper levels left out (C.4.1.3.2)."""
    combined_date_time: bool = False
    """A range of dates with a range of times is one range of moments (C.2.2.2.5.4)."""
    fuzzy_names: bool = False
    """Names are matched by what they sound and look like, too (C.2.2.2.1)."""
    timezone_adjustment: bool = False
    """Dates and times are those of the asker's Timezone Offset From UTC (0008,0201)."""
    empty_values: bool = False
    """Two quotation marks match what has no value (C.2.2.2.7)."""
    multiple_values: bool = False
    """Several values of a key match what has any of them (C.2.2.2.8)."""
    lenient_levels: bool = False
    """Unique keys of upper levels may be missing."""


STRICT: Final = Agreed()
"""Nothing was agreed on."""


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


Key: TypeAlias = OneOf | Like | Within


@dataclass(frozen=True, slots=True)
class Query:
    """Which entities of a level are looked for. All keys must match; a key's values are in normal form."""

    level: Level
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A C-FIND's Identifier, parsed."""

    model: Model
    query: Query
    requested: tuple[int, ...]
    """Tags of all attributes that the answers shall have, ascending."""
    unmatched: tuple[int, ...] = ()
    """Tags of keys with a value that are taken as universal: pending is 0xFF01 then (PS3.4 C.4.1.1.4)."""


def matches(key: Key, stored: str | None) -> bool:
    """Whether a key matches a stored attribute: the reference that every catalogue agrees with.

    Parameters
    ----------
    key : OneOf, Like or Within
    stored : str or None
        The attribute in normal form, several values apart by backslashes: one that matches is enough.
        An empty value matches no key (universal matching is no key at all).
    """
    if stored is None:
        return False
    values = values_of(key.attribute.vr, stored)
    match key:
        case OneOf():
            return any(value in key.values for value in values)
        case Like():
            return any(_pattern(pattern).fullmatch(value) for pattern in key.patterns for value in values)
        case Within():
            return any(
                (key.first is None or key.first <= value) and (key.last is None or value <= key.last)
                for value in values
            )


@functools.lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(c) or re.escape(c) for c in pattern), re.DOTALL)


def parse_find(model: Model, identifier: Elements, agreed: Agreed = STRICT) -> Request:
    """Read the Identifier of a C-FIND (PS3.4 C.4.1.1.3.1).

    Parameters
    ----------
    model : Model
    identifier : Elements
    agreed : Agreed, optional
        What was agreed on with the one who asks.

    Raises
    ------
    BadIdentifier
        No level, a level that the model has not, or no unique key of a level above.
    """
    level = _level(model, identifier)
    may_miss = agreed.relational_queries or agreed.lenient_levels
    above = _unique_keys_above(model, level, identifier, may_miss=may_miss)
    unique_above = {key.attribute.tag for key in above}
    keys: list[Key] = list(above)
    unmatched = []
    for tag in identifier:
        if tag in unique_above or tag in _NO_KEYS:
            continue
        attribute = ATTRIBUTES.get(tag)
        if attribute is None or not _can_match(attribute, level):
            if identifier[tag].value.strip(b" \0"):
                unmatched.append(tag)
            continue
        key = _key(attribute, text(identifier, tag) or "")
        if key is not None:
            keys.append(key)
    requested = tuple(sorted(tag for tag in identifier if tag not in _NO_KEYS))
    return Request(model, Query(level, tuple(keys)), requested, tuple(unmatched))


def parse_retrieval(model: Model, identifier: Elements) -> Query:
    """Read the Identifier of a C-MOVE or C-GET (PS3.4 C.4.2.1.4.1): which instances it asks for.

    Returns
    -------
    Query
        At IMAGE level. Keys that are no unique keys are not looked at.

    Raises
    ------
    BadIdentifier
        As `parse_find`, or no unique key of the level itself.
    """
    level = _level(model, identifier)
    keys = _unique_keys_above(model, level, identifier)
    wanted = _exactly(ATTRIBUTES[UNIQUE_KEYS[level]], text(identifier, UNIQUE_KEYS[level]) or "")
    if wanted is None:
        raise BadIdentifier(f"{level} level: {_name(UNIQUE_KEYS[level])} is missing")
    return Query(Level.IMAGE, (*keys, wanted))


def by_uids(
    *,
    patient_id: str | None = None,
    study: Iterable[str] = (),
    series: Iterable[str] = (),
    sop: Iterable[str] = (),
    level: Level = Level.IMAGE,
) -> Query:
    """Return a query for the entities below, or at, what is named; an empty list is no condition."""
    named: tuple[tuple[Level, Sequence[str]], ...] = (
        (Level.PATIENT, () if patient_id is None else (patient_id,)),
        (Level.STUDY, tuple(study)),
        (Level.SERIES, tuple(series)),
        (Level.IMAGE, tuple(sop)),
    )
    return Query(
        level,
        tuple(
            OneOf(attribute, tuple(normal(attribute.vr, value) for value in values))
            for at, values in named
            if values
            for attribute in (ATTRIBUTES[UNIQUE_KEYS[at]],)
        ),
    )


_NO_KEYS: Final = frozenset((QUERY_RETRIEVE_LEVEL, 0x00080005, 0x00080201))
"""What is in an Identifier, yet is no key: level, Specific Character Set, Timezone Offset From UTC."""


def _can_match(attribute: Attribute, level: Level) -> bool:
    if attribute.tag in (MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY):
        return level is Level.STUDY
    return _LEVELS.index(attribute.level) <= _LEVELS.index(level)


def _level(model: Model, identifier: Elements) -> Level:
    name = text(identifier, QUERY_RETRIEVE_LEVEL) or ""
    if name not in model.levels:
        raise BadIdentifier(f"the {model} root model has no such query/retrieve level")
    return Level(name)


def _unique_keys_above(
    model: Model, level: Level, identifier: Elements, *, may_miss: bool = False
) -> list[Key]:
    keys: list[Key] = []
    for upper in model.levels[: model.levels.index(level)]:
        tag = UNIQUE_KEYS[upper]
        key = _exactly(ATTRIBUTES[tag], text(identifier, tag) or "")
        if key is not None:
            keys.append(key)
        elif not may_miss:
            raise BadIdentifier(f"{level} level needs {_name(tag)} of the level above")
    return keys


def _name(tag: int) -> str:
    words = ATTRIBUTES[tag].column.split("_")
    return " ".join({"uid": "UID", "id": "ID", "sop": "SOP"}.get(word, word.title()) for word in words)


def _exactly(attribute: Attribute, value: str) -> OneOf | None:
    """Return a key for values that are meant as they are: in a unique key above, `*` is a character."""
    separated = value.split("\\") if attribute.tag != PATIENT_ID else [value]
    values = tuple(filter(None, (normal(attribute.vr, single) for single in separated)))
    return OneOf(attribute, values) if values else None


def _key(attribute: Attribute, value: str) -> Key | None:
    """Return what a key's value means; None for universal matching (PS3.4 C.2.2.2.3)."""
    vr = attribute.vr
    if vr in _RANGE_VRS and "-" in value:
        first, _, last = value.partition("-")
        return _range(attribute, normal(vr, first), last)
    values = [normal(vr, single) for single in value.split("\\")]
    values = [re.sub(r"\*+", "*", single) for single in values if single]
    if not values or "*" in values:
        return None
    if vr in _WILD_VRS and any(c in single for single in values for c in "*?"):
        return Like(attribute, tuple(values))
    return OneOf(attribute, tuple(values))


def _range(attribute: Attribute, first: str, last: str) -> Within | None:
    vr = attribute.vr
    last = last.replace(":", "").strip(" \0")
    if vr == "TM" and last:
        # An end without seconds goes on to the last of them (PS3.4 C.2.2.2.5, as "until 1100" is meant).
        last += _RANGE_END["TM"][len(last) :]
    end = normal(vr, last)
    if not first and not end:
        return None
    return Within(attribute, first or None, end or None)
