"""What a correction by a person would change: worked out, and shown, before it is decided.

What is corrected of a subject are all details of one fact. So a new correction is laid over the one that
holds, and to take one back is to decide the others alone.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.nouns import Fact, FactKind, Instance, Level
from storage_node.catalogue import corrections
from storage_node.catalogue.attributes import PATIENT_ID
from storage_node.catalogue.correctable import ISSUER_OF_PATIENT_ID, BadCorrection, keyword
from storage_node.upkeep.subjects import (
    Subject,
    aliases,
    becomes,
    describing,
    facts_about,
    followed,
    issuers_of,
    key_of,
    parts_of,
    patients,
    said,
    unknown,
)

if TYPE_CHECKING:
    from storage_node.catalogue.corrections import Corrected, Details
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid

_LAST_EPOCH: Final = sys.maxsize


@dataclass(frozen=True, slots=True)
class Change:
    """What one attribute says before and after; empty is no value."""

    tag: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be decided of a subject."""

    instance: Instance
    """What stands for it in facts."""
    held: Details
    """What is corrected of it now."""
    details: Details
    """What is to be."""
    changes: tuple[Change, ...] = ()
    studies: int = 0
    """How many studies are concerned, and how many instances."""
    instances: int = 0
    moved: tuple[Match, ...] = ()
    """The studies that change their patient, where patients are merged or parted again."""
    note: str = ""
    """What the user should know besides."""


async def correction(grid: Grid, subject: Subject, given: Mapping[int, str]) -> Plan:
    """Plan to correct attributes, and to leave what was corrected before.

    A study that is said to belong to another patient gets his issuer, name, birth date and sex, too, as far
    as they are known and nothing else is given.

    Parameters
    ----------
    grid : Grid
    subject : Subject
    given : mapping of int to str
        Texts by tags, as `correctable.corrections_of` returns them.

    Raises
    ------
    BadCorrection
        It is not certain which patient is meant; or a patient would become another that is known.
    NoCatalogue, NotEnoughSites
    """
    level, texts, note = subject.instance.level, dict(given), ""
    if level is Level.STUDY and _moves(subject, given):
        of_patient = await _of_patient(grid, subject, given)
        note = "" if of_patient else f"No patient {given[PATIENT_ID]} is known: what is not given stays."
        texts = {**of_patient, **given}
    details = {**dict(subject.held), **named(texts)}
    if level is Level.PATIENT:
        await _refuse_another(grid, subject, details)
    return await plan(grid, subject, details, note=note)


async def undoing(grid: Grid, subject: Subject, tags: Collection[int]) -> Plan:
    """Plan to take back what was corrected of some attributes, or all of it if none is named.

    Raises
    ------
    BadCorrection
        Nothing of that was corrected of the subject itself.
    NoCatalogue, NotEnoughSites
    """
    held = dict(subject.held)
    missing = [keyword(tag) for tag in tags if f"{tag:08X}" not in held]
    if missing or not held:
        raise BadCorrection(
            f"{', '.join(missing) or 'nothing of it'} was not corrected: nothing to take back"
        )
    names = named(dict.fromkeys(tags, ""))
    left = {name: value for name, value in held.items() if names and name not in names}
    return await plan(grid, subject, left)


async def plan(
    grid: Grid,
    subject: Subject,
    details: Mapping[str, str],
    *,
    moved: Collection[Match] = (),
    note: str = "",
) -> Plan:
    """Return what changes if these are all details of what is corrected of a subject.

    Raises
    ------
    NotEnoughSites
    """
    fact = Fact(
        instance=subject.instance,
        epoch=_LAST_EPOCH,
        kind=FactKind.CORRECTED,
        decided_at=grid.now(),
        decided_by="",
        reason="",
        details=tuple(sorted(details.items())),
    )
    before = dict((await _corrected(grid, subject)).details)
    after = dict((await _corrected(grid, subject, fact)).details)
    match = subject.match
    tags = sorted(int(name, 16) for name in before.keys() | after.keys())
    changes = [Change(tag, said(match, before, tag), said(match, after, tag)) for tag in tags]
    changed = tuple(change for change in changes if change.before != change.after)
    concerned = moved or (match,)
    return Plan(
        instance=subject.instance,
        held=subject.held,
        details=fact.details,
        changes=changed,
        studies=sum(one.studies for one in concerned),
        instances=sum(one.instances for one in concerned),
        moved=tuple(moved),
        note=note,
    )


async def decide(grid: Grid, planned: Plan, *, by: str, reason: str) -> Fact:
    """Decide what was planned.

    Raises
    ------
    BadCorrection
        The subject was corrected since: what was planned would take that back.
    NotEnoughSites
        It is not decided, though some sites may know of it.
    """
    fact = corrections.holding(await facts_about(grid, planned.instance))
    if (fact.details if fact is not None else ()) not in (planned.held, planned.details):
        raise BadCorrection("it was corrected by somebody else meanwhile: look at it again")
    return await grid.decide(
        planned.instance, FactKind.CORRECTED, by=by, reason=reason, details=planned.details
    )


def named(texts: Mapping[int, str]) -> dict[str, str]:
    """Return texts by the names that tags have in details."""
    return {f"{tag:08X}": value for tag, value in texts.items()}


async def _corrected(grid: Grid, subject: Subject, planned: Fact | None = None) -> Corrected:
    """Return what is said of a subject; of a patient, of the study that stands for him."""
    header, instance = subject.match.header, subject.match.version.instance
    study, series = instance.study_instance_uid, instance.series_instance_uid
    is_series = subject.instance.level is Level.SERIES
    correcting = corrections.series(study, series, header) if is_series else corrections.study(study, header)
    return await followed(grid, correcting, planned)


def _moves(subject: Subject, given: Mapping[int, str]) -> bool:
    """Whether a study gets another Patient ID, or the same of another issuer."""
    own = {tag: subject.says(tag) for tag in (PATIENT_ID, ISSUER_OF_PATIENT_ID)}
    key = key_of(*own.values())
    return PATIENT_ID in given and becomes(key, named(given)) != key


async def _of_patient(grid: Grid, subject: Subject, given: Mapping[int, str]) -> dict[int, str]:
    """Return what a study is to say to be another patient's; nothing if he is not known."""
    patient_id, issuer = given[PATIENT_ID], given.get(ISSUER_OF_PATIENT_ID)
    own_issuer = subject.says(ISSUER_OF_PATIENT_ID)
    key = key_of(patient_id, own_issuer if issuer is None else issuer)
    found = await patients(grid, patient_id, issuer)
    if not found and len(await aliases(grid, key)) > 1:
        raise BadCorrection(await unknown(grid, *parts_of(key)))
    alike = [one for one in found if parts_of(one.uid[0])[1] == own_issuer]
    if len(found) > 1 and not alike:
        raise BadCorrection(
            f"several patients have the ID {patient_id}: give IssuerOfPatientID=…, too, {issuers_of(found)}"
        )
    return describing((alike or found)[0]) if found else {}


async def _refuse_another(grid: Grid, subject: Subject, details: Mapping[str, str]) -> None:
    """See that a patient who gets another Patient ID becomes none that is known, nor himself again."""
    own = subject.match.uid[0]
    key = becomes(own, details)
    if key == own:
        return
    patient_id, issuer = parts_of(key)
    if await patients(grid, patient_id, issuer):
        raise BadCorrection(f"patient {patient_id} is known: atria merge makes one patient of the two")
    if len(chain := await aliases(grid, key)) > 1:
        into, _ = parts_of(chain[-1])
        raise BadCorrection(f"patient {patient_id} was merged into {into}: he cannot be another one, too")
