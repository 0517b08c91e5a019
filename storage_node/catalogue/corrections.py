"""What was corrected by people, applied to what the instances say (design, rule 5).

A study's correction comes first. The patient that it belongs to by then may be corrected, too, and what is
corrected may be his Patient ID: then the study belongs to another patient, whose correction comes next. So
two patients are merged, and so one is taken apart again. Which facts are needed is found on the way: these
are generators that yield a subject, and are sent the correction that holds of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cluster.nouns import Instance, Level, Topic
from storage_node.catalogue.attributes import ATTRIBUTES, described, normalised
from storage_node.catalogue.views import patient_key, ruling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.nouns import Fact

_TAG: Final = re.compile("[0-9A-F]{8}", re.ASCII)

Details: TypeAlias = tuple[tuple[str, str], ...]
"""Texts by tags, as `00100010`, in their order."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """What an entity is to be found by, and what is to be said of it."""

    values: Mapping[str, str | None]
    """Values in normal form by column, as `attributes.described` has them."""
    details: Details = ()
    """What is said instead of what its instances say."""
    patients: tuple[str, ...] = ()
    """Keys of the patients that a study was said to belong to; the last is the one that it does."""


Correcting: TypeAlias = "Generator[Instance, Fact | None, Corrected]"


def study(uid: str, header: bytes) -> Correcting:
    """Correct what a study's representative says of it and of its patient."""
    values = dict(described(header))
    details: dict[str, str] = {}
    _apply((yield Instance(uid, "", "")), values, details)
    patients = [patient_key(uid, values)]
    while patients[-1] not in patients[:-1]:
        _apply((yield Instance.patient(patients[-1])), values, details)
        if (now := patient_key(uid, values)) == patients[-1]:
            break
        patients.append(now)
    return Corrected(values, tuple(sorted(details.items())), tuple(patients))


def series(study_uid: str, uid: str, header: bytes) -> Correcting:
    """Correct what a series' representative says of it."""
    values = dict(described(header))
    details: dict[str, str] = {}
    _apply((yield Instance(study_uid, uid, "")), values, details)
    return Corrected(values, tuple(sorted(details.items())))


def correct(correcting: Correcting, facts_of: Callable[[Instance], Iterable[Fact]]) -> Corrected:
    """Apply corrections from facts that are at hand."""
    try:
        subject = next(correcting)
        while True:
            subject = correcting.send(holding(facts_of(subject)))
    except StopIteration as done:
        corrected: Corrected = done.value
        return corrected


async def followed(
    correcting: Correcting, holding_of: Callable[[Instance], Awaitable[Fact | None]]
) -> Corrected:
    """Apply corrections that have to be asked for, one subject after the other."""
    try:
        subject = next(correcting)
        while True:
            subject = correcting.send(await holding_of(subject))
    except StopIteration as done:
        corrected: Corrected = done.value
        return corrected


def holding(facts: Iterable[Fact]) -> Fact | None:
    """Return the correction that holds, of the facts about one subject."""
    return ruling(facts, Topic.CORRECTION)


def values_of(header: bytes, details: Details) -> Mapping[str, str | None]:
    """Return the values in normal form of a header of which something was corrected."""
    if not details:
        return described(header)
    values = dict(described(header))
    _overlay(values, details)
    return values


def by_tag(details: Iterable[tuple[str, str]]) -> dict[int, str]:
    """Return details by tag; what names none is no correction."""
    return {int(name, 16): text for name, text in details if _TAG.fullmatch(name)}


def to_text(details: Details) -> str:
    """Return details as they are kept in a column."""
    return json.dumps(dict(details), ensure_ascii=False, separators=(",", ":")) if details else ""


def from_text(text: str) -> Details:
    """Read what `to_text` returned."""
    return tuple(json.loads(text).items()) if text else ()


def _apply(fact: Fact | None, values: dict[str, str | None], details: dict[str, str]) -> None:
    if fact is not None:
        _overlay(values, fact.details)
        details.update(fact.details)


def _overlay(values: dict[str, str | None], details: Details) -> None:
    for name, text in details:
        attribute = _BY_NAME.get(name)
        if attribute is not None:
            values[attribute.column] = normalised(attribute.vr, text)


_BY_NAME: Final = {
    f"{attribute.tag:08X}": attribute
    for attribute in ATTRIBUTES.values()
    if attribute.vr != "UI" and attribute.level is not Level.IMAGE
}
