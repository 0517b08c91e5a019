"""What a person names, by UID, patient or accession number: found, whether it is in answers or not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.nouns import Instance, Level
from storage_node.catalogue.attributes import ATTRIBUTES, PATIENT_ID, normal
from storage_node.catalogue.corrections import values_of
from storage_node.catalogue.matching import OneOf, Query, by_uids
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep.studies import by_subject

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid

_ISSUER_OF_PATIENT_ID: Final = 0x00100021
_ACCESSION_NUMBER: Final = 0x00080050


@dataclass(frozen=True, slots=True)
class Selection:
    """What is named."""

    uids: Sequence[str] = ()
    """Study, Series or SOP Instance UIDs."""
    patients: Sequence[str] = ()
    """Patient IDs, each with `^` and its issuer behind it, or of whatever issuer without."""
    accession_numbers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """By what a person knows a study."""

    patient: str
    """Patient ID, with `^` and its issuer behind it if it has one."""
    study_date: str
    description: str


@dataclass(frozen=True, slots=True)
class Target:
    """A study, a series or an instance that is named, or is named by what it belongs to."""

    subject: Instance
    described: Described

    def holds(self, instance: Instance) -> bool:
        """Return whether an instance is, or belongs to, what is named."""
        return self.subject in (instance, *instance.above)


@dataclass(frozen=True, slots=True)
class KnownStudy:
    """All that the sites which answer know of a study."""

    versions: Mapping[Instance, Mapping[str, int]]
    """The size in bytes of each version of each instance, by digest."""
    facts: Mapping[Instance, Sequence[Fact]]
    """By subject."""

    def facts_of(self, subject: Instance) -> Sequence[Fact]:
        """Return what is known about a subject."""
        return self.facts.get(subject, ())


async def targets(grid: Grid, selection: Selection) -> tuple[list[Target], list[str]]:
    """Return what is selected, each once and in order; and what of the selection stands for nothing.

    Raises
    ------
    NoCatalogue
        No catalogue answers.
    """
    found: dict[Instance, Target] = {}
    nothing: list[str] = []
    by_uid: set[str] = set()
    queries = (
        by_uids(study=selection.uids, level=Level.STUDY),
        by_uids(series=selection.uids, level=Level.SERIES),
        by_uids(sop=selection.uids, level=Level.IMAGE),
    )
    for query in queries if selection.uids else ():
        for target, uid in await _find(grid, query):
            found[target.subject] = target
            by_uid.add(uid)
    nothing += [uid for uid in selection.uids if normal("UI", uid) not in by_uid]
    named = [(f"patient {name}", _of_patient(name)) for name in selection.patients]
    named += [(f"accession number {name}", _of_accession(name)) for name in selection.accession_numbers]
    for name, query in named:
        studies = await _find(grid, query)
        found |= {target.subject: target for target, _ in studies}
        if not studies:
            nothing.append(name)
    chosen = [found[subject] for subject in sorted(found) if not found.keys() & _strictly_above(subject)]
    return chosen, nothing


async def known_study(grid: Grid, uid: str) -> KnownStudy:
    """Return what the sites that are up know of a study.

    Raises
    ------
    NotEnoughSites
        None answers.
    """
    versions: dict[Instance, dict[str, int]] = {}
    facts: dict[Fact, None] = {}
    reasons = {name: health.why for name, health in grid.sites.health().items() if not health.up}
    for site in grid.sites.up():
        try:
            async for entry in asked(grid.sites, site, site.catalogue.walk(uid)):
                versions.setdefault(entry.instance, {})[entry.digest] = entry.size_bytes
            facts |= dict.fromkeys(await grid.sites.ask(site, site.catalogue.facts_in(uid)))
        except SiteFailed as error:
            reasons[site.name] = error.reason
    if len(reasons) == len(grid.sites.names):
        raise NotEnoughSites(0, 1, reasons)
    return KnownStudy(versions, by_subject(facts))


async def described_study(grid: Grid, uid: str) -> Described:
    """Return by what a person knows a study.

    Raises
    ------
    NoCatalogue
        No catalogue answers.
    """
    found = await _find(grid, by_uids(study=[uid], level=Level.STUDY))
    return found[0][0].described if found else Described("", "", "")


async def _find(grid: Grid, query: Query) -> list[tuple[Target, str]]:
    """Return what a query matches, hidden or not, each with the UID of its own level."""
    async with aclosing(grid.find(query, sys.maxsize, hidden=True)) as matches:
        return [(_target(match), match.uid[-1]) async for match in matches]


def _target(match: Match) -> Target:
    study, series, sop = (*match.uid, "", "")[:3]
    values = values_of(match.header, match.corrected)
    issuer = values["issuer_of_patient_id"]
    patient = f"{values['patient_id'] or ''}{f'^{issuer}' if issuer else ''}"
    described = Described(patient, values["study_date"] or "", values["study_description"] or "")
    return Target(Instance(study, series, sop), described)


def _of_patient(name: str) -> Query:
    patient_id, caret, issuer = name.rpartition("^")
    if not caret:
        return _studies({PATIENT_ID: name})
    return _studies({PATIENT_ID: patient_id, _ISSUER_OF_PATIENT_ID: issuer})


def _of_accession(number: str) -> Query:
    return _studies({_ACCESSION_NUMBER: number})


def _studies(values: Mapping[int, str]) -> Query:
    attributes: Iterable[tuple[int, str]] = values.items()
    keys = tuple(OneOf(ATTRIBUTES[tag], (normal(ATTRIBUTES[tag].vr, value),)) for tag, value in attributes)
    return Query(Level.STUDY, keys)


def _strictly_above(subject: Instance) -> set[Instance]:
    return {*subject.above} - {subject}
