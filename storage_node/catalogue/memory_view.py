"""What follows from a set of rows and what rules them, worked out in the plainest way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import xor

from cluster.nouns import Fact, Instance, Level
from storage_node.catalogue import corrections
from storage_node.catalogue.attributes import (
    MODALITIES_IN_STUDY,
    SOP_CLASSES_IN_STUDY,
    Attribute,
    described,
    values_of,
)
from storage_node.catalogue.headers import are_met
from storage_node.catalogue.keys import attributes_of, matches
from storage_node.catalogue.matching import Query
from storage_node.catalogue.protocol import Match, Row
from storage_node.catalogue.views import chosen, currency, fingerprint, is_hidden, precedence, rank, rulings


class View:
    """The entities of each level, and what stands for them.

    Parameters
    ----------
    rows : iterable of Row
    facts : mapping of Instance to iterable of Fact
        All facts, by subject.
    """

    def __init__(self, rows: Iterable[Row], facts: Mapping[Instance, Iterable[Fact]]) -> None:
        self._rulings = {subject: rulings(about) for subject, about in facts.items()}
        self._studies: dict[str, list[Row]] = defaultdict(list)
        self._series: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._instances: dict[Instance, list[Row]] = defaultdict(list)
        self._patients: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            instance = row.version.instance
            self._studies[instance.study_instance_uid].append(row)
            self._series[instance.study_instance_uid, instance.series_instance_uid].append(row)
            self._instances[instance].append(row)
        for study, below in self._studies.items():
            self._patients[self._of_study(study, below).patients[-1]] += below

    def entities(self, level: Level) -> Mapping[tuple[str, ...], list[Row]]:
        """Return the rows of each entity, by what identifies it."""
        match level:
            case Level.PATIENT:
                return {(key,): rows for key, rows in self._patients.items()}
            case Level.STUDY:
                return {(uid,): rows for uid, rows in self._studies.items()}
            case Level.SERIES:
                return {(study, series): rows for (study, series), rows in self._series.items()}
            case Level.IMAGE:
                return {
                    (i.study_instance_uid, i.series_instance_uid, i.sop_instance_uid): rows
                    for i, rows in self._instances.items()
                }

    def count(self, level: Level) -> int:
        """Return how many entities have instances that are not hidden."""
        return sum(bool(self._visible(rows)) for rows in self.entities(level).values())

    def is_matched(self, query: Query, rows: Sequence[Row]) -> bool:
        """Return whether a query matches the entity of its level that has these rows."""
        level = query.level
        stands = self._current(rows) if level is Level.IMAGE else self._first(rows)
        return are_met(query.residual, stands.header, self._corrected(level, stands)) and all(
            matches(key, *(self._stored(attribute, level, rows) for attribute in attributes_of(key)))
            for key in query.keys
        )

    def _stored(self, attribute: Attribute, level: Level, rows: Sequence[Row]) -> str | None:
        """Return what an attribute is at a level, for the entity that has these rows."""
        instance = rows[0].version.instance
        study = self._studies[instance.study_instance_uid]
        if attribute.tag == MODALITIES_IN_STUDY:
            return "\\".join(self._modalities(self._visible(study))) or None
        if attribute.tag == SOP_CLASSES_IN_STUDY:
            return "\\".join(self._sop_classes(study)) or None
        match attribute.level:
            case Level.IMAGE:
                return _values(self._current(rows))[attribute.column]
            case Level.SERIES:
                return self._in_series(instance, attribute.column)
            case _:
                stands = self._first(rows if level is Level.PATIENT else study)
                return self._in_study(stands, attribute.column)

    def match(self, level: Level, uid: tuple[str, ...], rows: Sequence[Row]) -> Match:
        """Describe an entity."""
        is_image = level is Level.IMAGE
        stands = self._current(rows) if is_image else self._first(rows)
        visible = {row.version.instance for row in self._visible(rows)}
        instances = {row.version.instance for row in rows}
        return Match(
            uid=uid,
            header=stands.header,
            version=stands.version,
            instances=len(visible),
            series=len({(i.study_instance_uid, i.series_instance_uid) for i in visible}),
            studies=len({i.study_instance_uid for i in visible}),
            modalities=self._modalities(rows if is_image else self._visible(rows)),
            sop_classes=(stands.version.sop_class_uid,) if is_image else self._sop_classes(rows),
            order=stands.order,
            precedence=precedence(stands.provenance, stands.version.digest),
            fingerprint=reduce(xor, (fingerprint(i, hidden=self._is_hidden(i)) for i in instances)),
            rulings=self._ruled(stands.version.instance) if is_image else (),
            corrected=self._corrected(level, stands),
        )

    def _corrected(self, level: Level, stands: Row) -> corrections.Details:
        """Return what was corrected of an entity and of those above it."""
        instance = stands.version.instance
        study = instance.study_instance_uid
        details = self._of_study(study, self._studies[study]).details
        if level in (Level.SERIES, Level.IMAGE):
            details += self._of_series(instance).details
        return tuple(sorted(details))

    def _of_study(self, uid: str, rows: Iterable[Row]) -> corrections.Corrected:
        return corrections.correct(corrections.study(uid, self._first(rows).header), self._ruled)

    def _of_series(self, of: Instance) -> corrections.Corrected:
        study, series = of.study_instance_uid, of.series_instance_uid
        header = self._first(self._series[study, series]).header
        return corrections.correct(corrections.series(study, series, header), self._ruled)

    def _in_study(self, stands: Row, column: str) -> str | None:
        uid = stands.version.instance.study_instance_uid
        return {**_values(stands), **self._of_study(uid, self._studies[uid]).values}[column]

    def _in_series(self, of: Instance, column: str) -> str | None:
        stands = self._first(self._series[of.study_instance_uid, of.series_instance_uid])
        return {**_values(stands), **self._of_series(of).values}[column]

    def _modalities(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Return the modalities of the series that have these rows."""
        series = {replace(row.version.instance, sop_instance_uid="") for row in rows}
        stored = (self._in_series(of, "modality") for of in series)
        return tuple(sorted({value for values in stored if values for value in values_of("CS", values)}))

    def _sop_classes(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Return the SOP classes of the current versions of instances that are not hidden."""
        instances = {row.version.instance for row in self._visible(rows)}
        return tuple(sorted({self._current(self._instances[i]).version.sop_class_uid for i in instances}))

    def _first(self, rows: Iterable[Row]) -> Row:
        """Return the row that stands for an entity above the instances."""
        return min(rows, key=self._rank)

    def _rank(self, row: Row) -> str:
        precedes = precedence(row.provenance, row.version.digest)
        return rank(precedes, hidden=self._is_hidden(row.version.instance))

    def _visible(self, rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if not self._is_hidden(row.version.instance)]

    def _is_hidden(self, instance: Instance) -> bool:
        return is_hidden(self._ruled(instance))

    def _ruled(self, subject: Instance) -> tuple[Fact, ...]:
        return self._rulings.get(subject, ())

    def _current(self, rows: Sequence[Row]) -> Row:
        choice = chosen(self._ruled(rows[0].version.instance))
        return max(rows, key=lambda row: currency(row, choice))


def _values(row: Row) -> Mapping[str, str | None]:
    instance = row.version.instance
    return {
        **described(row.header),
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": row.version.sop_class_uid,
    }
