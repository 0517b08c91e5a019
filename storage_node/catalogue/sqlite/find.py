"""A query as SQLite answers it: one page at a time, in the order of what identifies the entities.

SQL narrows, the reference matcher decides: what holds several values passes every condition here, and is
then compared value by value.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from cluster.nouns import Instance, Level
from storage_node.catalogue.attributes import MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, values_of
from storage_node.catalogue.columns import FACT_COLUMNS, ROW_COLUMNS, fact_of, row_of
from storage_node.catalogue.matching import Key, Like, OneOf, Query, Within, matches
from storage_node.catalogue.protocol import Match, Row
from storage_node.catalogue.schema import facts, series, studies, versions
from storage_node.catalogue.views import fingerprint, hides, precedence

_DIALECT: Final = sqlite.dialect(paramstyle="named")
_TABLES: Final = {
    Level.PATIENT: studies,
    Level.STUDY: studies,
    Level.SERIES: series,
    Level.IMAGE: versions,
}
_UIDS: Final[Mapping[Level, tuple[sa.Column[str], ...]]] = {
    Level.PATIENT: (studies.c.patient_key,),
    Level.STUDY: (studies.c.study_instance_uid,),
    Level.SERIES: (series.c.study_instance_uid, series.c.series_instance_uid),
    Level.IMAGE: (
        versions.c.study_instance_uid,
        versions.c.series_instance_uid,
        versions.c.sop_instance_uid,
    ),
}
"""What identifies an entity of each level, and orders the answers."""
_VERSION: Final = (*_UIDS[Level.IMAGE], *(versions.c[name.strip()] for name in ROW_COLUMNS.split(",")))
_FIELDS: Final = len(_VERSION) - 3
_RULING: Final = tuple(facts.c[name.strip()] for name in FACT_COLUMNS.split(","))
_SUMMARY: Final = (series.c.instances, series.c.fingerprint, series.c.modality, series.c.sop_classes)
"""What `_Below.count` counts, after the study."""
_IN_STUDY: Final = (MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the answers to a query."""

    matches: tuple[Match, ...]
    after: tuple[str, ...] | None
    """Where the next page begins; None when this was the last."""


@dataclass(slots=True)
class _Below:
    """What there is below an entity, of what is not hidden."""

    studies: set[str] = field(default_factory=set)
    series: int = 0
    instances: int = 0
    modalities: set[str] = field(default_factory=set)
    sop_classes: set[str] = field(default_factory=set)
    fingerprint: int = 0

    def count(
        self, study: str, instances: int, of_instances: int, modality: str | None, sop_classes: str
    ) -> None:
        self.fingerprint ^= of_instances
        if not instances:
            return
        self.studies.add(study)
        self.series += 1
        self.instances += instances
        self.modalities.update(values_of("CS", modality or ""))
        self.sop_classes.update(sop_classes.split("\\"))


class Find:
    """A query, compiled once for all of its pages."""

    def __init__(self, query: Query) -> None:
        self._level = query.level
        self._keys = tuple(key for key in query.keys if key.attribute.tag not in _IN_STUDY)
        self._keys_in_study = tuple(key for key in query.keys if key.attribute.tag in _IN_STUDY)
        compiled = _statement(query, self._keys).compile(dialect=_DIALECT)
        self._sql = str(compiled)
        self._parameters = dict(compiled.params)
        self._summary = str(_summary(query.level).compile(dialect=_DIALECT))

    def page(self, connection: sqlite3.Connection, after: tuple[str, ...] | None, size: int) -> Page:
        """Read the matches among the next `size` entities that SQL lets pass.

        Parameters
        ----------
        connection : sqlite3.Connection
        after : tuple of str or None
            What `Page.after` of the page before said; None for the first page.
        size : int
        """
        width = len(_UIDS[self._level])
        after = after or ("",) * width
        parameters = {f"after_{at}": value for at, value in enumerate(after)}
        connection.execute("BEGIN")
        try:
            rows = connection.execute(self._sql, {**self._parameters, **parameters, "size": size}).fetchall()
            below = self._below(connection, rows)
        finally:
            connection.execute("ROLLBACK")
        return Page(tuple(self._matches(rows, below)), tuple(rows[-1][:width]) if len(rows) == size else None)

    def _below(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> Mapping[str, _Below]:
        """Count what is below the entities of a page, by study or by patient."""
        below: dict[str, _Below] = defaultdict(_Below)
        if self._level in (Level.PATIENT, Level.STUDY):
            uids = json.dumps([row[0] for row in rows])
            for entity, *summary in connection.execute(self._summary, {"uids": uids}):
                below[entity].count(*summary)
        return below

    def _matches(self, rows: Iterable[tuple[Any, ...]], belows: Mapping[str, _Below]) -> Iterator[Match]:
        width = len(_UIDS[self._level])
        splits = itertools.accumulate((width, 3, _FIELDS, len(_SUMMARY), len(_RULING)))
        cuts = list(itertools.pairwise((0, *splits, None)))
        for row in rows:
            uid, uids, fields, summary, fact, compared = (row[slice(*cut)] for cut in cuts)
            if not all(map(matches, self._keys, compared)):
                continue
            stands = row_of(Instance(*uids), *fields)
            ruling = None if fact[0] is None else fact_of(stands.version.instance, *fact)
            match self._level:
                case Level.IMAGE:
                    below = _instance(stands, *summary[2:], hidden=hides(ruling))
                case Level.SERIES:
                    below = _Below()
                    below.count(uids[0], *summary)
                case _:
                    below = belows[uid[0]]
            if not all(matches(key, _in_study(key, below)) for key in self._keys_in_study):
                continue
            yield Match(
                uid=tuple(uid),
                header=stands.header,
                version=stands.version,
                instances=below.instances,
                series=below.series,
                studies=len(below.studies),
                modalities=tuple(sorted(below.modalities)),
                sop_classes=tuple(sorted(below.sop_classes)),
                order=stands.order,
                precedence=precedence(stands.provenance, stands.version.digest),
                fingerprint=below.fingerprint,
                ruling=ruling,
            )


def _instance(row: Row, modality: str | None, sop_class: str, *, hidden: bool) -> _Below:
    """Return what there is of one instance: its modality and class are known when it is hidden, too."""
    study = row.version.instance.study_instance_uid
    below = _Below()
    below.count(study, 1, fingerprint(row.version.instance, hidden=hidden), modality, sop_class)
    if hidden:
        below.studies, below.series, below.instances = set(), 0, 0
    return below


def _statement(query: Query, compared: Sequence[Key]) -> sa.Select[*tuple[Any, ...]]:
    uids = _UIDS[query.level]
    summary: tuple[sa.ColumnElement[Any], ...]
    ruling: tuple[sa.ColumnElement[Any], ...] = tuple(sa.null() for _ in _RULING)
    match query.level:
        case Level.IMAGE:
            summary = (sa.null(), sa.null(), series.c.modality, versions.c.sop_class_uid)
            ruling = _RULING
            tables = versions.join(series, _same(series, versions, 2))
            tables = tables.join(studies, _same(studies, versions, 1))
            tables = tables.outerjoin(facts, sa.and_(_same(facts, versions, 3), facts.c.holds))
        case Level.SERIES:
            summary = _SUMMARY
            tables = series.join(studies, _same(studies, series, 1)).join(
                versions, versions.c.id == series.c.representative
            )
        case _:
            summary = tuple(sa.null() for _ in _SUMMARY)
            tables = studies.join(versions, versions.c.id == studies.c.representative)
    after = [sa.bindparam(f"after_{at}", type_=sa.Text) for at in range(len(uids))]
    statement = (
        sa.select(*uids, *_VERSION, *summary, *ruling, *(_column(key) for key in compared))
        .select_from(tables)
        .where(sa.tuple_(*uids) > sa.tuple_(*after) if len(uids) > 1 else uids[0] > after[0])
        .where(*(_condition(key) for key in query.keys))
        .order_by(*uids)
        .limit(sa.bindparam("size"))
    )
    if query.level is Level.IMAGE:
        statement = statement.where(versions.c.is_current)
    if query.level is Level.PATIENT:
        statement = statement.where(_stands_for_patient())
    return statement


def _summary(level: Level) -> sa.Select[*tuple[Any, ...]]:
    entity = studies.c.patient_key if level is Level.PATIENT else studies.c.study_instance_uid
    return (
        sa.select(entity, series.c.study_instance_uid, *_SUMMARY)
        .select_from(studies.join(series, _same(series, studies, 1)))
        .where(entity.in_(_listed(sa.bindparam("uids", type_=sa.Text))))
    )


def _stands_for_patient() -> sa.ColumnElement[bool]:
    """Of a patient's studies, the one whose representative precedes those of the others."""
    other = studies.alias("other")
    return ~sa.exists().where(other.c.patient_key == studies.c.patient_key, other.c.rank < studies.c.rank)


def _condition(key: Key) -> sa.ColumnElement[bool]:
    """Return what SQL can say of a key: true for everything that it matches, and for little else."""
    attribute = key.attribute
    if attribute.tag in _IN_STUDY:
        below = series.alias("below")
        held = below.c.modality if attribute.tag == MODALITIES_IN_STUDY else below.c.sop_classes
        undecided = sa.or_(below.c.several, held.contains("\\", autoescape=True))
        return sa.exists().where(
            below.c.study_instance_uid == studies.c.study_instance_uid,
            sa.or_(_compares(held, key), undecided),
        )
    column = _column(key)
    table = _TABLES[attribute.level]
    compares = _compares(column, key)
    return compares if attribute.vr == "UI" else sa.or_(compares, table.c.several == sa.true())


def _compares(column: sa.ColumnElement[str], key: Key) -> sa.ColumnElement[bool]:
    match key:
        case OneOf(values=(value,)):
            return column == value
        case OneOf(values=values):
            return column.in_(_listed(sa.literal(json.dumps(values))))
        case Like(patterns=patterns):
            return sa.or_(*(column.op("GLOB")(pattern.replace("[", "[[]")) for pattern in patterns))
        case Within(first=first, last=last):
            ends = [] if first is None else [column >= first]
            return sa.and_(*ends, *([] if last is None else [column <= last]))


def _listed(values: sa.ColumnElement[str]) -> sa.Select[tuple[str]]:
    """Return the values of a JSON list: one parameter, however long the list."""
    return sa.select(sa.func.json_each(values).table_valued("value").c.value)


def _column(key: Key) -> sa.Column[str]:
    column: sa.Column[str] = _TABLES[key.attribute.level].c[key.attribute.column]
    return column


def _same(one: sa.Table, other: sa.Table, width: int) -> sa.ColumnElement[bool]:
    names = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")[:width]
    return sa.and_(*(one.c[name] == other.c[name] for name in names))


def _in_study(key: Key, below: _Below) -> str | None:
    held = below.modalities if key.attribute.tag == MODALITIES_IN_STUDY else below.sop_classes
    return "\\".join(held) or None
