"""The studies of all sites side by side, and what each site has of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog

from cluster.nouns import Debt, Instance, Provenance
from storage_node.catalogue.views import purged
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.upkeep.pace import together

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from storage_node.catalogue.protocol import Entry, Row, StudySummary
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite, Sites

Name: TypeAlias = tuple[Instance, str]
"""What names a version or a fact: its instance and its digest."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Held:
    """What one site has of a study, or of an instance."""

    versions: Mapping[Name, tuple[int, Provenance]]
    """The `order` and the provenance of each version."""
    facts: frozenset[Name]

    @classmethod
    def of(cls, entries: Iterable[Entry], facts: Iterable[Fact]) -> Held:
        """Return what a walk says."""
        return cls(
            {(entry.instance, entry.digest): (entry.order, entry.provenance) for entry in entries},
            _names(facts),
        )

    @classmethod
    def of_rows(cls, rows: Iterable[Row], facts: Iterable[Fact]) -> Held:
        """Return what rows say."""
        return cls(
            {(row.version.instance, row.version.digest): (row.order, row.provenance) for row in rows},
            _names(facts),
        )


def _names(facts: Iterable[Fact]) -> frozenset[Name]:
    return frozenset((fact.instance, fact.digest) for fact in facts)


def by_subject(facts: Iterable[Fact]) -> dict[Instance, list[Fact]]:
    """Return facts by what they are about."""
    subjects: dict[Instance, list[Fact]] = {}
    for fact in facts:
        subjects.setdefault(fact.instance, []).append(fact)
    return subjects


def gone(facts: Iterable[Fact]) -> frozenset[Name]:
    """Return the versions that were purged, by all facts about a study: those are rightly missing."""
    return frozenset(
        (instance, digest) for instance, about in by_subject(facts).items() for digest in purged(about)
    )


def owed(held: Mapping[str, Held]) -> list[Debt]:
    """Return what each site is owed by the union of all: facts first, in a fixed order.

    A site is owed a fact, or a version, that it lacks, and a version of which it has a lower order or a later
    provenance than another site.
    """
    facts = sorted({name for of_site in held.values() for name in of_site.facts})
    debts = [
        Debt(site, *name) for name in facts for site, of_site in held.items() if name not in of_site.facts
    ]
    for name in sorted({name for of_site in held.values() for name in of_site.versions}):
        known = [of_site.versions[name] for of_site in held.values() if name in of_site.versions]
        merged = max(order for order, _ in known), min(provenance for _, provenance in known)
        debts += [Debt(site, *name) for site, of_site in held.items() if of_site.versions.get(name) != merged]
    return debts


async def held_of_study(sites: Sites, site: GridSite, study_instance_uid: str) -> Held:
    """Return what a site has of a study.

    Raises
    ------
    SiteFailed
    """
    walk = asked(sites, site, site.catalogue.walk(study_instance_uid))
    entries = [entry async for entry in walk]
    return Held.of(entries, await sites.ask(site, site.catalogue.facts_in(study_instance_uid)))


async def held_of_instance(grid: Grid, instance: Instance) -> dict[str, Held]:
    """Return what each site that answers has of an instance.

    Raises
    ------
    NotEnoughSites
        None answers.
    """
    rows, facts = await asyncio.gather(grid.rows_at_sites(instance), grid.facts_at_sites(instance))
    return {name: Held.of_rows(rows[name], facts[name]) for name in rows if name in facts}


async def side_by_side(
    sites: Sites, chosen: Sequence[GridSite], failed: set[str]
) -> AsyncGenerator[tuple[str, dict[str, StudySummary]]]:
    """Yield each study that any of the sites knows, by UID, with the summary of each site that knows it.

    A site that does not go on is noted in `failed`: from then on, nothing that is yielded is about it.
    """
    walks = {site.name: asked(sites, site, site.catalogue.studies()) for site in chosen}
    heads: dict[str, StudySummary] = {}

    async def go_on(name: str) -> None:
        heads.pop(name, None)
        try:
            head = await anext(walks[name], None)
        except SiteFailed as error:
            log.warning("upkeep.walk_failed", site=name, reason=error.reason)
            failed.add(name)
        else:
            if head is not None:
                heads[name] = head

    try:
        await together(map(go_on, walks))
        while heads:
            uid = min(head.study_instance_uid for head in heads.values())
            summaries = {name: head for name, head in heads.items() if head.study_instance_uid == uid}
            yield uid, summaries
            await together(map(go_on, summaries))
    finally:
        for walk in walks.values():
            await walk.aclose()
