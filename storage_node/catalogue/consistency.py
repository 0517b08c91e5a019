"""Whether what a catalogue derives from its rows and facts is what follows from them.

A study's rows and facts are put into a catalogue in memory, which works everything out anew, and both are
asked the same.
"""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from cluster.dicom.elements import PackedHeaderError
from cluster.nouns import Level
from storage_node.catalogue import corrections
from storage_node.catalogue.attributes import KEPT, values_of
from storage_node.catalogue.matching import OneOf, Query, by_uids
from storage_node.catalogue.memory import MemoryCatalogue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.nouns import Fact, Instance, SiteIdentity
    from storage_node.catalogue.protocol import Catalogue, Match, StudySummary

LEVELS: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)

_LOOKS: Final = 3
"""How often a study is looked at that seems to be wrong: it may have changed while it was read."""
_UNLIMITED: Final = 1 << 62


async def some_studies(catalogue: Catalogue, number: int | None, chance: random.Random) -> list[StudySummary]:
    """Return so many studies, each as likely as any other; all if `number` is None.

    Raises
    ------
    CatalogueUnavailable
    """
    chosen: list[StudySummary] = []
    seen = 0
    async for summary in catalogue.studies():
        seen += 1
        if number is None or len(chosen) < number:
            chosen.append(summary)
        elif (place := chance.randrange(seen)) < number:
            chosen[place] = summary
    return chosen


async def is_consistent(catalogue: Catalogue, summary: StudySummary, identity: SiteIdentity) -> bool:
    """Return whether a study, its series, its instances and its summary follow from its rows and facts.

    Parameters
    ----------
    catalogue : Catalogue
    summary : StudySummary
        The study, as the catalogue summarised it.
    identity : SiteIdentity
        Whose catalogue it is.

    Raises
    ------
    CatalogueUnavailable
    """
    uid = summary.study_instance_uid
    for _ in range(_LOOKS):
        derived = await _matches(catalogue, uid)
        reference = await _copied(catalogue, uid, identity)
        follows = [one async for one in reference.studies() if one.study_instance_uid == uid]
        try:
            if follows == [summary] and await _matches(reference, uid) == derived:
                return await _are_found(catalogue, derived)
        except PackedHeaderError:  # of a row that has rotted: nothing follows from it
            return False
        summary = await _summary(catalogue, uid) or summary
    return False


async def _copied(catalogue: Catalogue, uid: str, identity: SiteIdentity) -> MemoryCatalogue:
    """Return a catalogue in memory of one study's rows and facts."""
    reference = MemoryCatalogue(identity.name, identity)
    instances = {entry.instance: entry.verified_at async for entry in catalogue.walk(uid)}
    for instance, verified_at in instances.items():
        for row in await catalogue.rows_of(instance):
            await reference.add(row, verified_at=verified_at)
    for fact in await catalogue.facts_in(uid):
        await reference.decide(fact)
    async for study in reference.find(by_uids(study=[uid], level=Level.STUDY), 1):
        await _copy_patients(catalogue, reference, corrections.study(uid, study.header))
    return reference


async def _copy_patients(
    catalogue: Catalogue, reference: MemoryCatalogue, correcting: corrections.Correcting
) -> None:
    """Add what was decided about the patients that a study was said to belong to."""

    async def copied(subject: Instance) -> Fact | None:
        facts = await catalogue.facts_of(subject)
        for fact in facts:
            await reference.decide(fact)
        return corrections.holding(facts)

    await corrections.followed(correcting, copied)


async def _matches(catalogue: Catalogue, uid: str) -> list[Match]:
    return [
        match
        for level in LEVELS
        async for match in catalogue.find(by_uids(study=[uid], level=level), _UNLIMITED)
    ]


async def _are_found(catalogue: Catalogue, derived: Iterable[Match]) -> bool:
    """Return whether entities are found by the attributes that they have."""
    for match in derived:
        level = LEVELS[len(match.uid) - 1]
        named = by_uids(study=match.uid[:1], series=match.uid[1:2], sop=match.uid[2:], level=level)
        described_as = corrections.values_of(match.header, match.corrected)
        keys = [
            OneOf(attribute, values)
            for attribute in KEPT
            if attribute.level is level or (level is Level.STUDY and attribute.level is Level.PATIENT)
            if (values := tuple(filter(None, values_of(attribute.vr, described_as[attribute.column] or ""))))
        ]
        query = Query(level, (*named.keys, *keys))
        if [found.uid async for found in catalogue.find(query, 1)] != [match.uid]:
            return False
    return True


async def _summary(catalogue: Catalogue, uid: str) -> StudySummary | None:
    async with aclosing(catalogue.studies()) as studies:
        async for summary in studies:
            if summary.study_instance_uid >= uid:
                return summary if summary.study_instance_uid == uid else None
    return None
