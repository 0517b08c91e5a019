"""Two patients who are one: an alias that is followed in all answers, and can be taken back (IHE RAD PIR)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.nouns import Instance, Level
from storage_node.catalogue import corrections
from storage_node.catalogue.correctable import BadCorrection
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import authority
from storage_node.upkeep.correcting import Plan, named, plan
from storage_node.upkeep.subjects import (
    Subject,
    aliases,
    becomes,
    describing,
    facts_about,
    find,
    followed,
    key_of,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.nouns import Fact
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid


async def merge(grid: Grid, old: Subject, new: Subject) -> Plan:
    """Plan to let one patient be another: his studies get the ID and issuer of that one, and what is known.

    Raises
    ------
    BadCorrection
        They are one already, or the other was once merged into this one.
    NoCatalogue, NotEnoughSites
    """
    old_key, new_key = old.match.uid[0], new.match.uid[0]
    if old_key == new_key:
        raise BadCorrection(f"patient {parts_of(old_key)[0]} cannot be merged into himself")
    if old_key in await aliases(grid, new_key):
        raise BadCorrection(
            f"patient {parts_of(new_key)[0]} was merged into {parts_of(old_key)[0]}: take that back first"
        )
    details = {**dict(old.held), **named(describing(new.match))}
    return await plan(grid, old, details, moved=await studies_of(grid, old_key))


async def unmerge(grid: Grid, patient_id: str, issuer: str | None = None) -> Plan:
    """Plan to let a patient be himself again, as he was corrected before he was merged.

    Parameters
    ----------
    grid : Grid
    patient_id, issuer : str
        Of the patient who was merged into another.

    Raises
    ------
    BadCorrection
        He was not.
    NoCatalogue, NotEnoughSites
    """
    key = key_of(patient_id, issuer or "")
    facts = sorted(await facts_about(grid, Instance.patient(key)), key=authority, reverse=True)
    if not facts or not _is_merge(key, facts[0]):
        hint = "" if issuer else ": say --issuer if his ID has one"
        raise BadCorrection(f"patient {patient_id} was merged into no other{hint}")
    details = next((dict(fact.details) for fact in facts if not _is_merge(key, fact)), {})
    subject, into = Instance.patient(key), (await aliases(grid, key))[-1]
    moved = [study for study in await studies_of(grid, into) if key in await _keys(grid, study)]
    if not moved:
        return Plan(subject, held=facts[0].details, details=tuple(sorted(details.items())))
    stands = min(moved, key=lambda study: study.precedence)
    return await plan(grid, Subject(subject, stands, facts[0].details), details, moved=moved)


async def studies_of(grid: Grid, key: str) -> list[Match]:
    """Return the studies of a patient, in the order of their UIDs.

    Raises
    ------
    NoCatalogue
    """
    found = await find(grid, by_uids(patient_id=parts_of(key)[0], level=Level.STUDY))
    return [study for study in found if _patient_of(study) == key]


def _patient_of(study: Match) -> str:
    values = corrections.values_of(study.header, study.corrected)
    return key_of(values["patient_id"] or "", values["issuer_of_patient_id"] or "")


def _is_merge(key: str, fact: Fact) -> bool:
    details: Mapping[str, str] = dict(fact.details)
    return becomes(key, details) != key


async def _keys(grid: Grid, study: Match) -> tuple[str, ...]:
    """Return the keys of the patients that a study was said to belong to; to the last it does."""
    return (await followed(grid, corrections.study(study.uid[0], study.header))).patients
