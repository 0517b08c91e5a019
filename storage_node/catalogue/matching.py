"""Queries (PS3.4 C.4.1.1.3.1, C.4.2.1.4.1): parsed once, and answered by each catalogue in its own way."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

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
)
from storage_node.catalogue.keys import Key, Like, OneOf, Within, attributes_of, matches
from storage_node.catalogue.levels import attribute_of
from storage_node.catalogue.parsing import (
    NO_KEYS,
    STRICT,
    Agreed,
    BadIdentifier,
    combined,
    is_understood,
    is_universal,
    keys_of,
    name_of,
)

__all__ = [
    "Agreed",
    "BadIdentifier",
    "Key",
    "Like",
    "Model",
    "OneOf",
    "Query",
    "Request",
    "Within",
    "by_uids",
    "matches",
    "parse_find",
    "parse_retrieval",
]

QUERY_RETRIEVE_LEVEL: Final = 0x00080052

_LEVELS: Final = tuple(Level)
_IN_STUDY: Final = (MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY)


class Model(enum.StrEnum):
    """Query/Retrieve information model (PS3.4 C.6)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Its levels, from the top down."""
        return _LEVELS if self is Model.PATIENT else _LEVELS[1:]


@dataclass(frozen=True, slots=True)
class Query:
    """Which entities of a level are looked for. All keys must match; a key's values are in normal form."""

    level: Level
    keys: tuple[Key, ...] = ()
    residual: tuple[Key, ...] = ()
    """Keys of attributes that are in no column: only the header that is kept of an entity decides them."""
    below: tuple[Key, ...] = ()
    """Keys of lower levels, which something below must match: no catalogue looks at them (`grid.find`)."""

    def of_what_is_below(self) -> Query:
        """Return a query for what is below, at the lowest level of which there is a key, by all keys."""
        level = max((key.attribute.level for key in self.below), key=_LEVELS.index, default=self.level)
        above = [key for key in self.keys if key.attribute.tag not in _IN_STUDY]
        return _query(level, (*above, *self.residual, *self.below))


@dataclass(frozen=True, slots=True)
class Request:
    """A C-FIND's Identifier, parsed."""

    model: Model
    query: Query
    requested: tuple[int, ...]
    """Tags of all attributes that the answers shall have, ascending."""
    unmatched: tuple[int, ...] = ()
    """Tags of keys with a value that are taken as universal: pending is 0xFF01 then (PS3.4 C.4.1.1.4)."""


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
        No level, a level that the model has not, no unique key of a level above, or a malformed value.
    """
    level = _level(model, identifier)
    above = _unique_keys_above(model, level, identifier, agreed)
    tags = tuple(sorted(tag for tag in identifier if tag not in NO_KEYS and tag & 0xFFFF))
    keys: list[Key] = []
    unmatched = []
    for tag in tags:
        if any(tag == key.attribute.tag for key in above):
            continue
        attribute = attribute_of(tag)
        if attribute is not None and _can_match(attribute, level, agreed):
            keys += keys_of(attribute, identifier, agreed)
            if not is_understood(identifier[tag]):
                unmatched.append(tag)
        elif not is_universal(identifier[tag]):
            unmatched.append(tag)
    query = _query(level, (*above, *combined(keys, agreed)))
    return Request(model, query, tags, tuple(unmatched))


def parse_retrieval(model: Model, identifier: Elements, agreed: Agreed = STRICT) -> Query:
    """Read the Identifier of a C-MOVE or C-GET (PS3.4 C.4.2.1.4.1): which instances it asks for.

    Returns
    -------
    Query
        At IMAGE level. Keys that are no unique keys are not looked at.

    Raises
    ------
    BadIdentifier
        No level, a level that the model has not, or no unique key of a level above or the level itself.
    """
    level = _level(model, identifier)
    keys = _unique_keys_above(model, level, identifier, agreed)
    wanted = _exactly(UNIQUE_KEYS[level], identifier)
    if wanted is None:
        raise BadIdentifier(f"{level} level: {name_of(ATTRIBUTES[UNIQUE_KEYS[level]])} is missing")
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


def _query(level: Level, keys: Iterable[Key]) -> Query:
    in_columns: list[Key] = []
    residual: list[Key] = []
    below: list[Key] = []
    for key in keys:
        if _is_below(key.attribute, level):
            below.append(key)
        elif all(attribute.column for attribute in attributes_of(key)):
            in_columns.append(key)
        else:
            residual.append(key)
    return Query(level, tuple(in_columns), tuple(residual), tuple(below))


def _is_below(attribute: Attribute, level: Level) -> bool:
    return _LEVELS.index(attribute.level) > _LEVELS.index(level)


def _can_match(attribute: Attribute, level: Level, agreed: Agreed) -> bool:
    if attribute.tag in _IN_STUDY:
        return level is Level.STUDY
    return agreed.relational_queries or not _is_below(attribute, level)


def _level(model: Model, identifier: Elements) -> Level:
    name = text(identifier, QUERY_RETRIEVE_LEVEL) or ""
    if name not in model.levels:
        raise BadIdentifier(f"the {model} root model has no such query/retrieve level")
    return Level(name)


def _unique_keys_above(model: Model, level: Level, identifier: Elements, agreed: Agreed) -> list[Key]:
    may_miss = agreed.relational_queries or agreed.lenient_levels
    keys: list[Key] = []
    for upper in model.levels[: model.levels.index(level)]:
        key = _exactly(UNIQUE_KEYS[upper], identifier)
        if key is not None:
            keys.append(key)
        elif not may_miss:
            raise BadIdentifier(
                f"{level} level needs {name_of(ATTRIBUTES[UNIQUE_KEYS[upper]])} of the level above"
            )
    return keys


def _exactly(tag: int, identifier: Elements) -> OneOf | None:
    """Return a key for values that are meant as they are: in a unique key above, `*` is a character."""
    attribute, value = ATTRIBUTES[tag], text(identifier, tag) or ""
    if not value.strip("* "):
        return None
    separated = value.split("\\") if tag != PATIENT_ID else [value]
    values = tuple(filter(None, (normal(attribute.vr, single) for single in separated)))
    return OneOf(attribute, values) if values else None
