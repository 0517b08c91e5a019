"""A catalogue in memory: the plain twin of the others, for tests and for reading how it is meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import xor

from cluster.nouns import Debt, Instance, Level, Provenance, SiteIdentity
from storage_node.catalogue.attributes import MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, described, values_of
from storage_node.catalogue.matching import Key, Query, matches
from storage_node.catalogue.protocol import CatalogueUnavailable, Counts, Match, Row
from storage_node.catalogue.views import currency, fingerprint, patient_key, precedence


class MemoryCatalogue:
    """A catalogue that lasts as long as its object.

    Everything but rows and debts is worked out anew when it is asked for, from the rows alone.

    Attributes
    ----------
    unavailable : str or None
        Why nothing works at present: for tests of what others do then.
    """

    def __init__(self, name: str, identity: SiteIdentity) -> None:
        self._name = name
        self._identity = identity
        self._rows: dict[tuple[Instance, str], Row] = {}
        self._debts: dict[Debt, None] = {}
        self.unavailable: str | None = None

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def add(self, row: Row, debts: Sequence[Debt] = ()) -> int:
        """Add a row, and debts with it."""
        self._check()
        instance, digest = row.version.instance, row.version.digest
        there = self._rows.get((instance, digest))
        if there is not None:
            provenance = Provenance.merge(there.provenance, row.provenance)
            row = replace(there, provenance=provenance, order=max(there.order, row.order))
        else:
            others = [other.order for other in self._versions(instance)]
            row = replace(row, order=row.order or 1 + max(others, default=0))
        self._rows[instance, digest] = row
        self._debts |= dict.fromkeys(debts)
        return row.order

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Add debts."""
        self._check()
        self._debts |= dict.fromkeys(debts)

    async def settle(self, site: str, held: Row) -> None:
        """Remove the debt of a site that holds a version by now, unless the row here is newer."""
        self._check()
        instance, digest = held.version.instance, held.version.digest
        here = self._rows.get((instance, digest), held)
        if here.order <= held.order and here.provenance >= held.provenance:
            self._debts.pop(Debt(site, instance, digest), None)

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        """Return the debts noted here, the oldest first: those that `site` is owed, or all."""
        self._check()
        return tuple(debt for debt in self._debts if site in (None, debt.site))[:limit]

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        """Return the rows of all versions of an instance, the current one first."""
        self._check()
        return sorted(
            self._versions(instance),
            key=currency,
            reverse=True,
        )

    async def find(self, query: Query, limit: int) -> AsyncGenerator[Match]:
        """Return what matches, ordered by `Match.uid`, at most `limit`."""
        self._check()
        view = _View(self._rows.values())
        found = 0
        for uid, rows in sorted(view.entities(query.level).items()):
            if found == limit:
                return
            if all(matches(key, view.stored(key, query.level, rows)) for key in query.keys):
                found += 1
                yield view.match(query.level, uid, rows)
                self._check()

    async def walk(self) -> AsyncGenerator[tuple[Instance, str, str]]:
        """Return (instance, digest, key) of every version held, ordered by instance, then digest."""
        self._check()
        for (instance, digest), row in sorted(self._rows.items(), key=lambda item: item[0]):
            yield instance, digest, row.version.key

    async def counts(self) -> Counts:
        """Return how much is held."""
        self._check()
        rows = self._rows.values()
        view = _View(rows)
        patients, studies, series, instances = (len(view.entities(level)) for level in Level)
        size = sum(row.version.size_bytes for row in rows)
        return Counts(patients, studies, series, instances, len(rows), size, len(self._debts))

    async def identity(self) -> SiteIdentity:
        """Read which site this is."""
        self._check()
        return self._identity

    async def close(self) -> None:
        """Nothing is to be let go of."""

    def _check(self) -> None:
        if self.unavailable is not None:
            raise CatalogueUnavailable(self._name, self.unavailable)

    def _versions(self, instance: Instance) -> list[Row]:
        return [row for (other, _), row in self._rows.items() if other == instance]


class _View:
    """What follows from a set of rows: the entities of each level, and what stands for them."""

    def __init__(self, rows: Iterable[Row]) -> None:
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
            self._patients[patient_key(study, _values(_first(below)))] += below

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

    def stored(self, key: Key, level: Level, rows: Sequence[Row]) -> str | None:
        """Return what a key of a query at `level` is compared with, for the entity that has these rows."""
        attribute = key.attribute
        instance = rows[0].version.instance
        study = self._studies[instance.study_instance_uid]
        if attribute.tag == MODALITIES_IN_STUDY:
            return "\\".join(self._modalities(study)) or None
        if attribute.tag == SOP_CLASSES_IN_STUDY:
            return "\\".join(_sop_classes(study))
        match attribute.level:
            case Level.IMAGE:
                return _values(_current(rows))[attribute.column]
            case Level.SERIES:
                series = self._series[instance.study_instance_uid, instance.series_instance_uid]
                return _values(_first(series))[attribute.column]
            case _:
                return _values(_first(rows if level is Level.PATIENT else study))[attribute.column]

    def match(self, level: Level, uid: tuple[str, ...], rows: Sequence[Row]) -> Match:
        """Describe an entity."""
        stands = _current(rows) if level is Level.IMAGE else _first(rows)
        instances = {row.version.instance for row in rows}
        return Match(
            uid=uid,
            header=stands.header,
            version=stands.version,
            instances=len(instances),
            series=len({(i.study_instance_uid, i.series_instance_uid) for i in instances}),
            studies=len({i.study_instance_uid for i in instances}),
            modalities=self._modalities(rows),
            sop_classes=_sop_classes([stands] if level is Level.IMAGE else rows),
            order=stands.order,
            precedence=precedence(stands.provenance, stands.version.digest),
            fingerprint=reduce(xor, map(fingerprint, instances)),
        )

    def _modalities(self, rows: Sequence[Row]) -> tuple[str, ...]:
        series = {
            (row.version.instance.study_instance_uid, row.version.instance.series_instance_uid)
            for row in rows
        }
        stored = (_values(_first(self._series[uid]))["modality"] for uid in series)
        return tuple(sorted({value for values in stored if values for value in values_of("CS", values)}))


def _first(rows: Iterable[Row]) -> Row:
    """Return the row that stands for an entity above the instances."""
    return min(rows, key=lambda row: precedence(row.provenance, row.version.digest))


def _current(rows: Iterable[Row]) -> Row:
    return max(rows, key=currency)


def _sop_classes(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(sorted({row.version.sop_class_uid for row in rows}))


def _values(row: Row) -> Mapping[str, str | None]:
    instance = row.version.instance
    return {
        **described(row.header),
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": row.version.sop_class_uid,
    }
