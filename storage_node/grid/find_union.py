"""What several catalogues say of one entity, as one answer: decided from their answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Any, Final

from cluster.nouns import Level
from storage_node.catalogue.attributes import (
    MODALITIES_IN_STUDY,
    SERIES_INSTANCE_UID,
    SOP_CLASSES_IN_STUDY,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Attribute,
    values_of,
)
from storage_node.catalogue.corrections import Details
from storage_node.catalogue.corrections import values_of as values_of_header
from storage_node.catalogue.headers import are_met
from storage_node.catalogue.keys import attributes_of, matches
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.views import chosen, fingerprint, is_hidden, patient_key, precedence, rulings

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from storage_node.catalogue.protocol import Match, Row

_UIDS: Final = frozenset((STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID))


def says(match: Match) -> tuple[object, ...]:
    """Return what a match says of what is below it: two that agree know the same instances."""
    return (
        match.fingerprint,
        match.instances,
        match.series,
        match.studies,
        match.modalities,
        match.sop_classes,
    )


def instance_of(same: Sequence[Match], facts: Iterable[Fact]) -> Match:
    """Return an instance: its current version, of those that catalogues take for it, by the highest ruling.

    Parameters
    ----------
    same : sequence of Match
        What catalogues say of it, at IMAGE level.
    facts : iterable of Fact
        What catalogues without a row of it know.
    """
    versions: dict[str, Match] = {}
    for match in same:
        digest = match.version.digest
        known = versions.get(digest, match)
        versions[digest] = replace(
            match,
            order=max(match.order, known.order),
            precedence=min(match.precedence, known.precedence),
        )
    holds = rulings((*(fact for match in same for fact in match.rulings), *facts))
    choice = chosen(holds)
    current = max(
        versions.values(),
        key=lambda match: (match.version.digest == choice, match.order, match.precedence),
    )
    shown = int(not is_hidden(holds))
    return replace(
        current,
        instances=shown,
        series=shown,
        studies=shown,
        fingerprint=fingerprint(current.version.instance, hidden=not shown),
        rulings=holds,
    )


def described_by(row: Row) -> Mapping[str, Any]:
    """Return what a match says of the version that it is described by: fields of `Match`, by name."""
    return {
        "header": row.header,
        "version": row.version,
        "order": row.order,
        "precedence": precedence(row.provenance, row.version.digest),
    }


def corrected_by(level: Level, match: Match, details: Details) -> Match:
    """Return an entity of which that was corrected."""
    match = replace(match, corrected=details)
    if level is Level.SERIES and match.instances:
        return replace(match, modalities=_modalities(match))
    return match


def series_of(stands: Match, parts: Sequence[Match]) -> Match:
    """Return a series by its instances, with what stands for it."""
    visible = [part for part in parts if part.instances]
    shown = int(bool(visible))
    return replace(
        stands,
        instances=len(visible),
        series=shown,
        studies=shown,
        modalities=_modalities(stands) if visible else (),
        sop_classes=_merged(part.sop_classes for part in visible),
        fingerprint=reduce(xor, (part.fingerprint for part in parts), 0),
    )


def total_of(uid: tuple[str, ...], parts: Sequence[Match]) -> Match:
    """Return a study by its series, or a patient by the studies, of which there is at least one."""
    visible = [part for part in parts if part.instances]
    return replace(
        min(visible or parts, key=lambda part: part.precedence),
        uid=uid,
        instances=sum(part.instances for part in visible),
        series=sum(part.series for part in visible),
        studies=len({part.uid[0] for part in visible}),
        modalities=_merged(part.modalities for part in visible),
        sop_classes=_merged(part.sop_classes for part in visible),
        fingerprint=reduce(xor, (part.fingerprint for part in parts)),
    )


def query_below(level: Level, uid: tuple[str, ...]) -> Query:
    """Return a query for what is one level below an entity; a patient's may find others' studies, too."""
    match level:
        case Level.PATIENT:
            patient_id, _, study = uid[0].partition("\n")
            if not patient_id:
                return by_uids(study=(study,), level=Level.STUDY)
            return by_uids(patient_id=patient_id, level=Level.STUDY)
        case Level.STUDY:
            return by_uids(study=uid, level=Level.SERIES)
        case _:
            return by_uids(study=uid[:1], series=uid[1:], level=Level.IMAGE)


def is_of(study: Match, patient: tuple[str, ...]) -> bool:
    """Return whether a study that `query_below` found is that patient's."""
    return patient == (patient_key(study.uid[0], values_of_header(study.header, study.corrected)),)


def is_by_uids(query: Query) -> bool:
    """Return whether a query asks by UIDs alone: a catalogue that does not answer it has no row then."""
    return not query.residual and all(key.attribute.tag in _UIDS for key in query.keys)


def still_matches(query: Query, match: Match) -> bool:
    """Return whether a query matches a merged answer, as far as the attributes of its own level say."""
    levels = (Level.PATIENT, Level.STUDY) if query.level is Level.STUDY else (query.level,)
    return are_met(query.residual, match.header, match.corrected) and all(
        matches(key, *(_stored(attribute, match) for attribute in attributes_of(key)))
        for key in query.keys
        if key.attribute.level in levels
    )


def _stored(attribute: Attribute, match: Match) -> str | None:
    if attribute.tag == MODALITIES_IN_STUDY:
        return "\\".join(match.modalities) or None
    if attribute.tag == SOP_CLASSES_IN_STUDY:
        return "\\".join(match.sop_classes) or None
    instance = match.version.instance
    stored = {
        **values_of_header(match.header, match.corrected),
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": match.version.sop_class_uid,
    }
    return stored[attribute.column]


def _modalities(series: Match) -> tuple[str, ...]:
    modality = values_of_header(series.header, series.corrected)["modality"] or ""
    return tuple(sorted(set(values_of("CS", modality))))


def _merged(values: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({value for some in values for value in some}))
