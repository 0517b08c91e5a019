"""What was decided about a patient, a study, a series or an instance, by whom, when and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.nouns import Fact, Instance, Level
from storage_node.catalogue import corrections
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import rulings
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.pace import all_of
from storage_node.upkeep.subjects import aliases, find, followed, key_of
from storage_node.upkeep.where import instances

if TYPE_CHECKING:
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite


@dataclass(frozen=True, slots=True)
class Decided:
    """One fact."""

    fact: Fact
    holds: bool
    """Whether it is the one that holds of its topic."""
    sites: tuple[str, ...]
    """Those that know it, of those that answer."""


@dataclass(frozen=True, slots=True)
class History:
    """All that was decided about something, the earliest first, and where that could not be asked."""

    decided: tuple[Decided, ...]
    silent: tuple[str, ...]
    """Sites that do not answer: they may know more."""


async def history(grid: Grid, uid: str) -> History:
    """Return what was decided about a study, a series or an instance, what is in it, and what is above it.

    Parameters
    ----------
    grid : Grid
    uid : str
        Its UID.

    Raises
    ------
    NotEnoughSites, NoCatalogue
        Nobody can tell.
    """
    queries = (by_uids(study=[uid]), by_uids(series=[uid]), by_uids(sop=[uid]))
    found = [instance for query in queries for instance in await instances(grid, query)]
    studies = {instance.study_instance_uid: instance for instance in found}

    def concerns(subject: Instance) -> bool:
        place = (subject.study_instance_uid, subject.series_instance_uid, subject.sop_instance_uid)
        is_above = any(subject in instance.above for instance in found)
        return uid in place or is_above

    facts: list[tuple[str, Fact]] = []
    silent: set[str] = set()
    for study in studies or (uid,):
        known = await _facts_in(grid, study)
        silent.update(set(grid.sites.names) - known.keys())
        facts += [(site, fact) for site, some in known.items() for fact in some if concerns(fact.instance)]
    for instance in studies.values():
        for key in await _patients_of(grid, instance):
            facts += await _about_patient(grid, key)
    return History(_decided(facts), tuple(sorted(silent)))


async def history_of_patient(grid: Grid, patient_id: str, issuer: str | None = None) -> History:
    """Return what was decided about a patient, and about those that he was merged into.

    Raises
    ------
    NotEnoughSites, NoCatalogue
    """
    facts: list[tuple[str, Fact]] = []
    for key in await aliases(grid, key_of(patient_id, issuer or "")):
        facts += await _about_patient(grid, key)
    up = {site.name for site in grid.sites.up()}
    return History(_decided(facts), tuple(sorted(set(grid.sites.names) - up)))


async def _facts_in(grid: Grid, study: str) -> dict[str, Sequence[Fact]]:
    async def at(site: GridSite) -> tuple[str, Sequence[Fact]] | None:
        try:
            return site.name, await grid.sites.ask(site, site.catalogue.facts_in(study))
        except SiteFailed as error:
            reasons[site.name] = error.reason
            return None

    reasons = {name: health.why for name, health in grid.sites.health().items() if not health.up}
    known = dict(filter(None, await all_of(at(site) for site in grid.sites.up())))
    if not known:
        raise NotEnoughSites(0, 1, reasons)
    return known


async def _patients_of(grid: Grid, instance: Instance) -> tuple[str, ...]:
    """Return the keys of the patients that the study of an instance was said to belong to."""
    study = instance.study_instance_uid
    found = await find(grid, by_uids(study=[study], level=Level.STUDY))
    header = found[0].header if found else (await grid.rows_of(instance))[0].header  # a study that is hidden
    return (await followed(grid, corrections.study(study, header))).patients


async def _about_patient(grid: Grid, key: str) -> list[tuple[str, Fact]]:
    known = await grid.facts_at_sites(Instance.patient(key))
    return [(site, fact) for site, some in known.items() for fact in some]


def _decided(known: Iterable[tuple[str, Fact]]) -> tuple[Decided, ...]:
    sites: dict[Fact, dict[str, None]] = defaultdict(dict)
    about: dict[Instance, list[Fact]] = defaultdict(list)
    for site, fact in known:
        sites[fact][site] = None
        about[fact.instance].append(fact)
    holding = {fact for facts in about.values() for fact in rulings(facts)}
    in_order = sorted(sites, key=lambda fact: (fact.decided_at, fact.epoch, fact.instance, fact.digest))
    return tuple(Decided(fact, fact in holding, tuple(sites[fact])) for fact in in_order)
