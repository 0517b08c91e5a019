"""A catalogue in memory: the plain twin of the others, for tests and for reading how it is meant."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import xor

from cluster.nouns import Debt, Fact, FactKind, Instance, Level, Provenance, SiteIdentity
from storage_node.catalogue.feed import Added, Change, cursor_of, place_of
from storage_node.catalogue.matching import Query
from storage_node.catalogue.memory_view import View
from storage_node.catalogue.protocol import CatalogueUnavailable, Counts, Entry, Match, Met, Row, StudySummary
from storage_node.catalogue.views import authority, currency, fact_fingerprint, row_fingerprint, rulings


@dataclass(frozen=True, slots=True)
class _Held:
    row: Row
    verified_at: datetime


class MemoryCatalogue:
    """A catalogue that lasts as long as its object.

    Everything but rows, facts and debts is worked out anew when it is asked for, from rows and facts alone.

    Attributes
    ----------
    unavailable : str or None
        Why nothing works at present: for tests of what others do then.
    """

    def __init__(self, name: str, identity: SiteIdentity) -> None:
        self._name = name
        self._identity = identity
        self._held: dict[tuple[Instance, str], _Held] = {}
        self._facts: dict[Instance, dict[str, Fact]] = defaultdict(dict)
        self._debts: dict[Debt, None] = {}
        self._feed_id = secrets.token_hex(8)
        self._came: list[tuple[Instance, str]] = []
        """Versions and facts, by their digests, in the order in which they came."""
        self.unavailable: str | None = None

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def add(self, row: Row, debts: Sequence[Debt] = (), *, verified_at: datetime) -> Met:
        """Add a row, and debts with it."""
        self._check()
        instance, digest = row.version.instance, row.version.digest
        there = self._held.get((instance, digest))
        if there is not None:
            known = there.row
            provenance = Provenance.merge(known.provenance, row.provenance)
            version = row.version if verified_at >= there.verified_at else known.version
            row = replace(known, version=version, provenance=provenance, order=max(known.order, row.order))
            verified_at = max(verified_at, there.verified_at)
        else:
            others = [other.order for other in self._versions(instance)]
            row = replace(row, order=row.order or 1 + max(others, default=0))
            self._came.append((instance, digest))
        self._held[instance, digest] = _Held(row, verified_at)
        self._debts |= dict.fromkeys(debts)
        return Met(row.order, row.version.key, self._known(instance))

    async def decide(self, fact: Fact, debts: Sequence[Debt] = ()) -> None:
        """Add a fact, and debts with it."""
        self._check()
        if fact.digest not in self._facts[fact.instance]:
            self._facts[fact.instance][fact.digest] = fact
            self._came.append((fact.instance, fact.digest))
        self._debts |= dict.fromkeys(debts)

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Add debts."""
        self._check()
        self._debts |= dict.fromkeys(debts)

    async def settle(self, site: str, held: Row) -> None:
        """Remove the debt of a site that holds a version by now, unless the row here is newer."""
        self._check()
        instance, digest = held.version.instance, held.version.digest
        there = self._held.get((instance, digest))
        here = held if there is None else there.row
        if here.order <= held.order and here.provenance >= held.provenance:
            self._debts.pop(Debt(site, instance, digest), None)

    async def forgive(self, debt: Debt) -> None:
        """Remove a debt of a fact."""
        self._check()
        self._debts.pop(debt, None)

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        """Return the debts noted here, the oldest first: those that `site` is owed, or all."""
        self._check()
        return tuple(debt for debt in self._debts if site in (None, debt.site))[:limit]

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        """Return the rows of all versions of an instance, the current one first."""
        self._check()
        return sorted(self._versions(instance), key=currency, reverse=True)

    async def facts_of(self, instance: Instance) -> Sequence[Fact]:
        """Return all facts about an instance, the one that holds first."""
        self._check()
        return self._known(instance)

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        """Return all facts about a study's instances, by instance, the one that holds first."""
        self._check()
        instances = sorted(i for i in self._facts if i.study_instance_uid == study_instance_uid)
        return [fact for instance in instances for fact in self._known(instance)]

    async def verified(self, copies: Sequence[tuple[Instance, str]], at: datetime) -> None:
        """Note that the copies of these versions here were read and found right."""
        self._check()
        for copy in copies:
            there = self._held.get(copy)
            if there is not None:
                self._held[copy] = replace(there, verified_at=max(at, there.verified_at))

    async def least_verified(self, before: datetime, limit: int) -> Sequence[Entry]:
        """Return the entries whose copies were last verified before then, the longest ago first."""
        self._check()
        due = [held for held in self._held.values() if held.verified_at < before]
        return [_entry(held) for held in sorted(due, key=lambda held: held.verified_at)[:limit]]

    async def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        """Return what matches, ordered by `Match.uid`, at most `limit`."""
        self._check()
        view = self._view()
        found = 0
        for uid, rows in sorted(view.entities(query.level).items()):
            if found == limit:
                return
            if looked is not None:
                looked()
            if view.is_matched(query, rows):
                found += 1
                yield view.match(query.level, uid, rows)
                self._check()

    async def walk(self, study_instance_uid: str | None = None) -> AsyncGenerator[Entry]:
        """Return an entry for every version held, or for those of a study, by instance, then digest."""
        self._check()
        for (instance, _), held in sorted(self._held.items(), key=lambda item: item[0]):
            if study_instance_uid in (None, instance.study_instance_uid):
                yield _entry(held)

    async def studies(self) -> AsyncGenerator[StudySummary]:
        """Return a summary of every study of which there is a row or a fact, ordered by UID."""
        self._check()
        entries: Mapping[str, list[int]] = defaultdict(list)
        for (instance, digest), held in self._held.items():
            there = row_fingerprint(instance, digest, held.row.order, held.row.provenance)
            entries[instance.study_instance_uid].append(there)
        for instance, facts in self._facts.items():
            entries[instance.study_instance_uid] += map(fact_fingerprint, facts.values())
        for study, fingerprints in sorted(entries.items()):
            if fingerprints:
                yield StudySummary(study, len(fingerprints), reduce(xor, fingerprints))

    async def changes(self, after: str | None, limit: int) -> Sequence[Change]:
        """Return the versions and facts that came after a cursor, in the order in which they came."""
        self._check()
        (begin,) = place_of(after, self._feed_id, begin=(0,), end=(len(self._came),))
        came = enumerate(self._came[begin : begin + limit], begin + 1)
        return [Change(cursor_of(self._feed_id, (place,)), self._what(*one)) for place, one in came]

    async def ruled(self, kind: FactKind, *, after: str = "") -> AsyncGenerator[Fact]:
        """Return the facts of a kind that hold, by subject; of studies whose UID is after `after`."""
        self._check()
        for subject, facts in sorted(self._facts.items()):
            if subject.study_instance_uid > after:
                for fact in rulings(facts.values()):
                    if fact.kind is kind:
                        yield fact

    async def counts(self) -> Counts:
        """Return how much is held."""
        self._check()
        view = self._view()
        patients, studies, series, instances = (view.count(level) for level in Level)
        size = sum(held.row.version.size_bytes for held in self._held.values())
        return Counts(patients, studies, series, instances, len(self._held), size, len(self._debts))

    async def identity(self) -> SiteIdentity:
        """Read which site this is."""
        self._check()
        return self._identity

    async def close(self) -> None:
        """Nothing is to be let go of."""

    def _check(self) -> None:
        if self.unavailable is not None:
            raise CatalogueUnavailable(self._name, self.unavailable)

    def _what(self, instance: Instance, digest: str) -> Added | Fact:
        held = self._held.get((instance, digest))
        return self._facts[instance][digest] if held is None else _added(held.row)

    def _versions(self, instance: Instance) -> Iterable[Row]:
        return [held.row for (other, _), held in self._held.items() if other == instance]

    def _known(self, instance: Instance) -> tuple[Fact, ...]:
        facts = self._facts.get(instance, {})
        return tuple(sorted(facts.values(), key=authority, reverse=True))

    def _view(self) -> View:
        facts = {subject: tuple(of.values()) for subject, of in self._facts.items()}
        return View((held.row for held in self._held.values()), facts)


def _added(row: Row) -> Added:
    version = row.version
    return Added(
        instance=version.instance,
        digest=version.digest,
        sop_class_uid=version.sop_class_uid,
        transfer_syntax_uid=version.transfer_syntax_uid,
        size_bytes=version.size_bytes,
        order=row.order,
        provenance=row.provenance,
    )


def _entry(held: _Held) -> Entry:
    version = held.row.version
    return Entry(
        instance=version.instance,
        digest=version.digest,
        key=version.key,
        size_bytes=version.size_bytes,
        order=held.row.order,
        provenance=held.row.provenance,
        verified_at=held.verified_at,
        is_streamed=bool(version.block_digests),
        flags=held.row.flags,
    )
