"""The statements by which a query is answered, built once for all that ask the same of other values.

Databases differ in how they say some of it: each has a `Wording` of its own.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import sqlalchemy as sa

from cluster.nouns import Level
from storage_node.catalogue.attributes import MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, Attribute
from storage_node.catalogue.columns import FACT_COLUMNS, ROW_COLUMNS
from storage_node.catalogue.keys import Alike, Combined, Empty, Items, Key, Like, OneOf, Within
from storage_node.catalogue.names import parts
from storage_node.catalogue.schema import facts, studies, versions

IN_STUDY: Final = (MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY)
"""Attributes of a study that are in no column: all its series together have them."""
UIDS: Final = {Level.PATIENT: 1, Level.STUDY: 1, Level.SERIES: 2, Level.IMAGE: 3}
"""How many columns identify an entity of each level, and order the answers: the first of a page."""

_NAMES: Final = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
_VERSION: Final = tuple(versions.c[name.strip()] for name in (*_NAMES, *ROW_COLUMNS.split(",")))
_RULING: Final = tuple(facts.c[name.strip()] for name in FACT_COLUMNS.split(","))
_COUNTED: Final = ("instances", "fingerprint", "modality", "sop_classes")

WIDTHS: Final = (3, len(_VERSION) - 3, len(_COUNTED), 2)
"""Columns of a page after those: UIDs and the rest of the version that stands for the entity, what is
counted of a series (NULL where it is counted apart), what was corrected; then a column for each key."""


_CONDITIONS: Final = 100
"""How many conditions a database is asked for at once: each makes a statement deeper."""
_DATE_DIGITS: Final = 8
_PATTERN_LENGTH: Final = 1000
"""How much of a pattern a database is asked for: long ones are too complex for some."""


class Kind(enum.Enum):
    """What a key asks of a column."""

    IS = enum.auto()
    AMONG = enum.auto()
    LIKE = enum.auto()
    WITHIN = enum.auto()
    EMPTY = enum.auto()


Narrowing: TypeAlias = OneOf | Like | Within | Empty
"""A key that SQL can compare a column with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A key without its values."""

    attribute: Attribute
    kind: Kind
    parameters: tuple[str | None, ...]
    """Names of parameters: one for a value or a list, one for each pattern, the two ends of a range."""


class Wording(Protocol):
    """How one database says what a query asks."""

    @property
    def series(self) -> sa.Table:
        """Where series are read from, with what is counted of them."""

    def listed(self, values: Sequence[str]) -> object:
        """Return a list of values as one parameter."""

    def pattern(self, wild: str) -> str:
        """Return a pattern of `*` and `?` as a parameter."""

    def among(self, column: sa.ColumnElement[str], values: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """Return whether a column is one of a list of values."""

    def like(self, column: sa.ColumnElement[str], pattern: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return whether a column is like a pattern."""

    def several(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return whether a column holds several values, apart by backslashes."""

    def undecided(self, column: sa.Column[str], asked: Asked) -> sa.ColumnElement[bool]:
        """Return whether a column holds several values, of which one might be what is asked for."""


def narrowed(keys: Iterable[Key]) -> Sequence[Narrowing]:
    """Return what SQL can say of keys: all that they match passes each of these, and little else."""
    return [*itertools.islice((part for key in keys for part in _narrowed(key)), _CONDITIONS)]


def _narrowed(key: Key) -> Sequence[Narrowing]:
    attribute = key.attribute
    match key:
        case Empty() if attribute.tag in IN_STUDY:
            return ()
        case OneOf(_, values) | Like(_, values) if attribute.vr == "PN" and any("=" in v for v in values):
            return _by_groups(attribute, values)
        case Like(_, patterns):
            return (Like(attribute, tuple(map(_cut, patterns))),)
        case Combined(date, _, first, last):
            return (Within(date, first and first[:_DATE_DIGITS], last and last[:_DATE_DIGITS]),)
        case Alike(_, words):
            return [Like(attribute, tuple(f"*{part}*" for part in parts(word))) for word in words]
        case Items():
            return ()
        case _:
            return (key,)


def without_values(at: int, key: Narrowing, wording: Wording) -> tuple[Asked, dict[str, object]]:
    """Return a key without its values, and these by the names of their parameters.

    Parameters
    ----------
    at : int
        Which of the keys it is.
    key : OneOf, Like, Within or Empty
    wording : Wording
    """
    values: tuple[object, ...]
    match key:
        case OneOf(values=(value,)):
            kind, values = Kind.IS, (value,)
        case OneOf():
            kind, values = Kind.AMONG, (wording.listed(key.values),)
        case Like():
            kind, values = Kind.LIKE, tuple(map(wording.pattern, key.patterns))
        case Within():
            kind, values = Kind.WITHIN, (key.first, key.last)
        case Empty():
            kind, values = Kind.EMPTY, ()
    named = [(None if value is None else f"key_{at}_{n}", value) for n, value in enumerate(values)]
    asked = Asked(key.attribute, kind, tuple(name for name, _ in named))
    return asked, {name: value for name, value in named if name is not None}


def page_of(
    level: Level, compared: Sequence[Attribute], keys: Sequence[Asked], wording: Wording
) -> sa.Select[*tuple[Any, ...]]:
    """Return what reads the next `size` entities after `after_0`, … that SQL lets pass.

    Parameters
    ----------
    level : Level
    compared : sequence of Attribute
        Those that are read, too, to be compared.
    keys : sequence of Asked
    wording : Wording
    """
    series = wording.series
    uids = _uids(level, series)
    summary: Sequence[sa.ColumnElement[Any]] = [sa.null() for _ in _COUNTED]
    corrected = series.c.corrections if level in (Level.SERIES, Level.IMAGE) else sa.null()
    match level:
        case Level.IMAGE:
            summary = (sa.null(), sa.null(), series.c.modality, versions.c.sop_class_uid)
            tables = versions.join(series, _same(series, versions, 2))
            tables = tables.join(studies, _same(studies, versions, 1))
        case Level.SERIES:
            summary = [series.c[name] for name in _COUNTED]
            tables = series.join(studies, _same(studies, series, 1)).join(
                versions, versions.c.id == series.c.representative
            )
        case _:
            tables = studies.join(versions, versions.c.id == studies.c.representative)
    after = [sa.bindparam(f"after_{at}", type_=sa.Text) for at in range(len(uids))]
    statement = (
        sa.select(
            *uids,
            *_VERSION,
            *summary,
            studies.c.corrections,
            corrected,
            *(_column(attribute, series) for attribute in compared),
        )
        .select_from(tables)
        .where(sa.tuple_(*uids) > sa.tuple_(*after) if len(uids) > 1 else uids[0] > after[0])
        .where(*(_condition(key, wording) for key in keys))
        .order_by(*uids)
        .limit(sa.bindparam("size", type_=sa.Integer))
    )
    if level is Level.IMAGE:
        statement = statement.where(versions.c.is_current)
    if level is Level.PATIENT:
        statement = statement.where(_stands_for_patient())
    return statement


def apart(
    level: Level, wording: Wording, entities: sa.ColumnElement[Any]
) -> sa.Select[*tuple[Any, ...]] | None:
    """Return what else is read of the entities of a page, the list of whose first UIDs is given.

    Of patients and studies, what is counted of all series below: the entity comes first, then the study. Of
    instances, the facts that hold of what is in their studies: UIDs come first. Of series nothing.
    """
    match level:
        case Level.IMAGE:
            columns = (*(facts.c[name] for name in _NAMES), *_RULING)
            return sa.select(*columns).where(
                facts.c.holds, wording.among(facts.c.study_instance_uid, entities)
            )
        case Level.SERIES:
            return None
        case _:
            series = wording.series
            entity = studies.c.patient_key if level is Level.PATIENT else studies.c.study_instance_uid
            columns = (entity, series.c.study_instance_uid, *(series.c[name] for name in _COUNTED))
            tables = studies.join(series, _same(series, studies, 1))
            return sa.select(*columns).select_from(tables).where(wording.among(entity, entities))


def _by_groups(attribute: Attribute, values: Sequence[str]) -> Sequence[Like]:
    """Return what names have that match one of several component groups, whatever stands between."""
    longest = (max(value.split("="), key=len) for value in values)
    return (Like(attribute, tuple(_cut(f"*{group}*") for group in longest)),)


def _cut(pattern: str) -> str:
    return pattern if len(pattern) <= _PATTERN_LENGTH else f"{pattern[:_PATTERN_LENGTH]}*"


def _table(level: Level, series: sa.Table) -> sa.Table:
    return {Level.SERIES: series, Level.IMAGE: versions}.get(level, studies)


def _uids(level: Level, series: sa.Table) -> Sequence[sa.Column[str]]:
    if level is Level.PATIENT:
        return (studies.c.patient_key,)
    return [_table(level, series).c[name] for name in _NAMES[: UIDS[level]]]


def _column(attribute: Attribute, series: sa.Table) -> sa.Column[str]:
    column: sa.Column[str] = _table(attribute.level, series).c[attribute.column]
    return column


def _same(one: sa.Table, other: sa.Table, width: int) -> sa.ColumnElement[bool]:
    return sa.and_(*(one.c[name] == other.c[name] for name in _NAMES[:width]))


def _stands_for_patient() -> sa.ColumnElement[bool]:
    """Of a patient's studies, the one whose representative precedes those of the others."""
    other = studies.alias("other")
    return ~sa.exists().where(other.c.patient_key == studies.c.patient_key, other.c.rank < studies.c.rank)


def _condition(key: Asked, wording: Wording) -> sa.ColumnElement[bool]:
    attribute = key.attribute
    if attribute.tag in IN_STUDY:
        held_below = wording.series.alias("below")
        held = held_below.c.modality if attribute.tag == MODALITIES_IN_STUDY else held_below.c.sop_classes
        return sa.exists().where(
            held_below.c.study_instance_uid == studies.c.study_instance_uid,
            sa.or_(_compares(held, key, wording), wording.several(held)),
        )
    column = _column(attribute, wording.series)
    if key.kind is Kind.EMPTY:
        return column.is_(None)
    compares = _compares(column, key, wording)
    return compares if attribute.vr == "UI" else sa.or_(compares, wording.undecided(column, key))


def _compares(column: sa.ColumnElement[str], key: Asked, wording: Wording) -> sa.ColumnElement[bool]:
    given = [None if name is None else sa.bindparam(name, type_=sa.Text) for name in key.parameters]
    match key.kind, given:
        case Kind.IS, [value]:
            return column == value
        case Kind.AMONG, [values] if values is not None:
            return wording.among(column, values)
        case Kind.LIKE, _:
            return sa.or_(*(wording.like(column, pattern) for pattern in given if pattern is not None))
        case _:
            first, last = given
            ends = [] if first is None else [column >= first]
            return sa.and_(*ends, *([] if last is None else [column <= last]))
