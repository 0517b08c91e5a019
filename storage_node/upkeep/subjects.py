"""The patients, studies and series that people correct, as the sites know them now."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.dicom.elements import PackedHeaderError, text, unpack
from cluster.nouns import Fact, FactKind, Instance, Level
from storage_node.catalogue import corrections
from storage_node.catalogue.attributes import PATIENT_ID, normal
from storage_node.catalogue.correctable import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_BIRTH_DATE,
    PATIENT_NAME,
    PATIENT_SEX,
    BadCorrection,
)
from storage_node.catalogue.matching import Query, by_uids

if TYPE_CHECKING:
    from storage_node.catalogue.corrections import Corrected, Correcting, Details
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid

_DESCRIBES_PATIENT: Final = (PATIENT_NAME, PATIENT_BIRTH_DATE, PATIENT_SEX)


@dataclass(frozen=True, slots=True)
class Subject:
    """A patient, a study or a series."""

    instance: Instance
    """What stands for it in facts."""
    match: Match
    held: Details
    """What is corrected of it by the fact that holds."""

    def says(self, tag: int) -> str:
        """Return the text that an attribute has by now; empty where it has none."""
        return said(self.match, dict(self.match.corrected), tag)


async def study(grid: Grid, uid: str) -> Subject:
    """Return a study.

    Raises
    ------
    BadCorrection
        No such study is in answers.
    NoCatalogue, NotEnoughSites
        Nobody can tell.
    """
    found = await find(grid, by_uids(study=[uid], level=Level.STUDY))
    if not found:
        raise BadCorrection(f"no study {uid} is known")
    return await _subject(grid, Instance(uid, "", ""), found[0])


async def series(grid: Grid, uid: str, study_uid: str | None = None) -> Subject:
    """Return a series; its study has to be named where several have one of that UID.

    Raises
    ------
    BadCorrection
        No such series is in answers, or more than one.
    NoCatalogue, NotEnoughSites
    """
    studies = () if study_uid is None else (study_uid,)
    found = await find(grid, by_uids(study=studies, series=[uid], level=Level.SERIES))
    if not found:
        raise BadCorrection(f"no series {uid} is known{f' in study {study_uid}' if study_uid else ''}")
    if len(found) > 1:
        names = ", ".join(match.uid[0] for match in found)
        raise BadCorrection(f"several studies have a series {uid}: name the study, too, one of {names}")
    (match,) = found
    return await _subject(grid, Instance(match.uid[0], match.uid[1], ""), match)


async def patient(grid: Grid, patient_id: str, issuer: str | None = None) -> Subject:
    """Return a patient; the issuer has to be named where several have one of that Patient ID.

    Raises
    ------
    BadCorrection
        No such patient is in answers, or more than one.
    NoCatalogue, NotEnoughSites
    """
    found = await patients(grid, patient_id, issuer)
    if len(found) > 1:
        raise BadCorrection(f"several patients have the ID {patient_id}: say --issuer, {issuers_of(found)}")
    if not found:
        raise BadCorrection(await unknown(grid, patient_id, issuer or ""))
    (match,) = found
    return await _subject(grid, Instance.patient(match.uid[0]), match)


async def patients(grid: Grid, patient_id: str, issuer: str | None = None) -> list[Match]:
    """Return the patients of a Patient ID, of one issuer (empty is none) or of all.

    Raises
    ------
    NoCatalogue
    """
    key = key_of(patient_id, issuer or "")
    found = await find(grid, by_uids(patient_id=patient_id, level=Level.PATIENT))
    of_id = [match for match in found if parts_of(match.uid[0])[0] == parts_of(key)[0]]
    return of_id if issuer is None else [match for match in of_id if match.uid[0] == key]


def key_of(patient_id: str, issuer: str) -> str:
    """Return the key of a patient (`views.patient_key`) from what identifies him."""
    return f"{normal('LO', patient_id)}\n{normal('LO', issuer)}"


def parts_of(key: str) -> tuple[str, str]:
    """Return the Patient ID and its issuer (empty is none) from the key of a patient."""
    patient_id, _, issuer = key.partition("\n")
    return patient_id, issuer


def issuers_of(found: Sequence[Match]) -> str:
    """Return the issuers of patients' IDs, to be shown."""
    issuers = (parts_of(match.uid[0])[1] for match in found)
    return "one of " + ", ".join(issuer or "'' (none)" for issuer in issuers)


def describing(patient: Match) -> dict[int, str]:
    """Return what a study is to say to be a patient's: his ID and issuer, name, birth date and sex."""
    patient_id, issuer = parts_of(patient.uid[0])
    corrected = dict(patient.corrected)
    texts = {tag: said(patient, corrected, tag) for tag in _DESCRIBES_PATIENT}
    known = {tag: value for tag, value in texts.items() if value}
    return {PATIENT_ID: patient_id, ISSUER_OF_PATIENT_ID: issuer, **known}


def said(match: Match, corrected: Mapping[str, str], tag: int) -> str:
    """Return the text of an attribute, as it was corrected, or else as it is stored; empty for none."""
    name = f"{tag:08X}"
    if name in corrected:
        return corrected[name]
    try:
        return text(unpack(match.header), tag) or ""
    except PackedHeaderError:
        return ""


def becomes(key: str, details: Mapping[str, str]) -> str:
    """Return the key that a patient has once he is corrected."""
    patient_id, issuer = parts_of(key)
    return key_of(
        details.get(f"{PATIENT_ID:08X}", patient_id), details.get(f"{ISSUER_OF_PATIENT_ID:08X}", issuer)
    )


async def aliases(grid: Grid, key: str) -> list[str]:
    """Return the keys of the patients that one was merged into, one after the other; his own comes first.

    Raises
    ------
    NotEnoughSites
    """
    keys = [key]
    while True:
        fact = corrections.holding(await facts_about(grid, Instance.patient(keys[-1])))
        following = becomes(keys[-1], dict(fact.details) if fact is not None else {})
        if following in keys:
            return keys
        keys.append(following)


async def unknown(grid: Grid, patient_id: str, issuer: str) -> str:
    """Return why no patient of an ID is found.

    Raises
    ------
    NotEnoughSites
    """
    keys = await aliases(grid, key_of(patient_id, issuer))
    if len(keys) == 1:
        return f"no patient {patient_id} is known{f' of issuer {issuer}' if issuer else ''}"
    into, _ = parts_of(keys[-1])
    return f"patient {patient_id} was merged into {into}: name that one, or take it back (atria merge --undo)"


async def facts_about(grid: Grid, subject: Instance) -> list[Fact]:
    """Return the corrections of a subject that any site knows.

    Raises
    ------
    NotEnoughSites
    """
    known = await grid.facts_at_sites(subject)
    facts = {fact.digest: fact for facts in known.values() for fact in facts}
    return [fact for fact in facts.values() if fact.kind is FactKind.CORRECTED]


async def followed(grid: Grid, correcting: Correcting, planned: Fact | None = None) -> Corrected:
    """Apply the corrections that sites know; `planned` stands for those of its subject.

    Raises
    ------
    NotEnoughSites
    """

    async def holding_of(subject: Instance) -> Fact | None:
        if planned is not None and subject == planned.instance:
            return planned
        return corrections.holding(await facts_about(grid, subject))

    return await corrections.followed(correcting, holding_of)


async def find(grid: Grid, query: Query) -> list[Match]:
    """Return all that is found.

    Raises
    ------
    NoCatalogue
    """
    return [match async for match in grid.find(query, sys.maxsize)]


async def _subject(grid: Grid, instance: Instance, match: Match) -> Subject:
    fact = corrections.holding(await facts_about(grid, instance))
    return Subject(instance, match, fact.details if fact is not None else ())
