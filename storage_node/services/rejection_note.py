"""Rejection notes: Key Object Selection Documents that say that instances are rejected (IHE RAD-66, IOCM).

What they are is their Document Title; what they reject are the instances that their evidence names, and those
that their content does (PS3.3 C.17.6, PS3.16 TID 2010).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from cluster.nouns import Instance
from storage_node.catalogue.views import REJECTED_FOR_QUALITY
from storage_node.services.parsed import items_of, text_of

if TYPE_CHECKING:
    from pydicom import Dataset

T = TypeVar("T")

_CODING_SCHEME: Final = "DCM"
_CODE_VALUE, _CODING_SCHEME_DESIGNATOR = 0x00080100, 0x00080102
_CONCEPT_NAME_CODE: Final = 0x0040A043
_EVIDENCE: Final = 0x0040A375
_CONTENT: Final = 0x0040A730
_REFERENCED_SERIES, _REFERENCED_SOP = 0x00081115, 0x00081199
_REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E


class Title(enum.StrEnum):
    """Document titles that reject (PS3.16 CID 7011), by their codes in DCM."""

    QUALITY = REJECTED_FOR_QUALITY
    PATIENT_SAFETY = "113037"
    WRONG_WORKLIST_ENTRY = "113038"
    RETENTION_EXPIRED = "113039"

    @property
    def meaning(self) -> str:
        """The code's meaning."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    Title.QUALITY: "Rejected for Quality Reasons",
    Title.PATIENT_SAFETY: "Rejected for Patient Safety Reasons",
    Title.WRONG_WORKLIST_ENTRY: "Incorrect Modality Worklist Entry",
    Title.RETENTION_EXPIRED: "Data Retention Policy Expired",
}


class BadNote(Exception):
    """The document cannot be read, so nobody can tell what it rejects."""


class TooManyInstances(Exception):
    """It names more instances than the limit."""


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """What a rejection note says."""

    title: Title
    instances: tuple[Instance, ...]
    """Those that its evidence names, in their order there."""
    unplaced: tuple[str, ...]
    """SOP Instance UIDs of those that only its content names, without study and series."""


def read(document: Dataset, limit: int) -> RejectionNote | None:
    """Read a Key Object Selection Document; None where it rejects nothing, but flags for another purpose.

    Parameters
    ----------
    document : Dataset
    limit : int
        Instances that it may name.

    Raises
    ------
    BadNote
    TooManyInstances
    """
    try:
        title = _title(document)
        if title is None:
            return None
        evidence = dict.fromkeys(_within(_evidence(document), limit))
        content = dict.fromkeys(_within(_content(document), limit))
    except (BadNote, TooManyInstances):
        raise
    except Exception as error:  # pydicom raises whatever a malformed element makes it stumble over
        # Its message may quote values.
        raise BadNote(f"the rejection note cannot be read: {type(error).__name__}") from error
    known = {instance.sop_instance_uid for instance in evidence}
    return RejectionNote(title, tuple(evidence), tuple(uid for uid in content if uid not in known))


def _title(document: Dataset) -> Title | None:
    for code in items_of(document, _CONCEPT_NAME_CODE):
        value = text_of(code, _CODE_VALUE)
        if text_of(code, _CODING_SCHEME_DESIGNATOR) == _CODING_SCHEME and value in frozenset(Title):
            return Title(value)
    return None


def _evidence(document: Dataset) -> Iterator[Instance]:
    """Yield what Current Requested Procedure Evidence Sequence (0040,A375) names (PS3.3 C.17.2)."""
    for study in items_of(document, _EVIDENCE):
        for series in items_of(study, _REFERENCED_SERIES):
            for sop in items_of(series, _REFERENCED_SOP):
                instance = Instance(
                    text_of(study, _STUDY_INSTANCE_UID),
                    text_of(series, _SERIES_INSTANCE_UID),
                    text_of(sop, _REFERENCED_SOP_INSTANCE_UID),
                )
                if not (instance.study_instance_uid and instance.series_instance_uid):
                    raise BadNote("a reference lacks its Study or Series Instance UID")
                if instance.sop_instance_uid:
                    yield instance


def _content(document: Dataset) -> Iterator[str]:
    """Yield what the content items refer to, however deep (PS3.3 C.17.3)."""
    waiting = [*items_of(document, _CONTENT)]
    while waiting:
        item = waiting.pop()
        waiting += items_of(item, _CONTENT)
        for sop in items_of(item, _REFERENCED_SOP):
            if uid := text_of(sop, _REFERENCED_SOP_INSTANCE_UID):
                yield uid


def _within(found: Iterator[T], limit: int) -> Iterator[T]:
    for number, one in enumerate(found, start=1):
        if number > limit:
            raise TooManyInstances(f"the rejection note names more than {limit} instances")
        yield one
