"""What a history has asked for, and what may therefore be true: the judge's own memory.

An operation that was acknowledged has happened. One that failed, or whose process crashed, may have happened,
or may yet: what it left at one site gets to the others some day.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Final

from cluster.dicom.elements import Element, pack
from cluster.nouns import Instance, Provenance
from storage_node.grid.arrival import Arrival

if TYPE_CHECKING:
    from datetime import datetime

    from cluster.nouns import Fact, Version

BLOCK_BYTES: Final = 64
"""Size of a block in a simulation: a version of three is a large one."""

LONGEST_WRITE_S: Final = 15.0
"""A write that puts its object adds its row within this time, or never."""

_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_HEADER: Final = pack(
    {
        0x00080016: Element("UI", _CT.encode()),
        0x00080060: Element("CS", b"CT"),
        0x00100020: Element("LO", b"P1"),
    }
)


@dataclass(frozen=True, slots=True)
class Content:
    """One Part 10 file that is sent."""

    instance: Instance
    bytes: bytes
    is_streamed: bool

    @property
    def digest(self) -> str:
        """What names the version."""
        return sha256(self.bytes).hexdigest()

    def arrival(self, at: datetime, sender: str) -> Arrival:
        """Return what is known of it when it comes."""
        return Arrival(
            instance=self.instance,
            sop_class_uid=_CT,
            transfer_syntax_uid=_EXPLICIT,
            data_set_offset_bytes=0,
            provenance=Provenance(at, sender, "ATRIA", "10.0.0.1:4242"),
            header=_HEADER,
        )


def instance(number: int) -> Instance:
    """Return one of the instances: the third is in a series, the fourth in a study of its own."""
    study = "1.2" if number < 4 else "1.9"
    series = f"{study}.3" if number < 3 else f"{study}.4"
    return Instance(study, series, f"{series}.{number}")


def content(number: int, version: int) -> Content:
    """Return a version of an instance: each third one is large."""
    text = f"instance {number} version {version} ".encode()
    is_streamed = version % 3 == 2
    size = 2 * BLOCK_BYTES + 10 if is_streamed else 40
    return Content(instance(number), (text * 8)[:size], is_streamed)


class Kind(enum.Enum):
    """What was asked."""

    STORE = "store"
    DELETE = "delete"
    REVIVE = "revive"


@dataclass(slots=True)
class Operation:
    """Something that was asked, and what is known of its outcome."""

    kind: Kind
    instance: Instance
    began: float
    content: Content | None = None
    acknowledged: float = inf
    """When it was; never, if it failed."""
    ended: float = inf
    """Since when its process does nothing for it any more."""

    @property
    def shows(self) -> bool:
        """Whether it makes the instance visible."""
        return self.kind is not Kind.DELETE


@dataclass(slots=True)
class Model:
    """All operations of a history."""

    operations: list[Operation] = field(default_factory=list)
    versions: dict[str, Version] = field(default_factory=dict)
    """Those that were acknowledged, by digest."""
    facts: dict[str, Fact] = field(default_factory=dict)
    """Those that were acknowledged, by digest."""

    def of(self, wanted: Instance) -> list[Operation]:
        """Return the operations on an instance."""
        return [operation for operation in self.operations if operation.instance == wanted]

    def instances(self) -> list[Instance]:
        """Return all that were asked for, in order."""
        return sorted({operation.instance for operation in self.operations})

    def is_stored(self, wanted: Instance, at: float = inf) -> bool:
        """Whether a version of an instance was acknowledged by then."""
        return any(
            operation.kind is Kind.STORE and operation.acknowledged < at for operation in self.of(wanted)
        )

    def under_way(self, now: float) -> list[Operation]:
        """Return what was not ended yet."""
        return [operation for operation in self.operations if operation.ended >= now]

    def since_when_others_may_write(self, operation: Operation) -> float:
        """Return since when somebody may have been writing who had not ended when an operation began.

        Where a copy is, is said by whoever wrote it last: perhaps by one who began before.
        """
        return min(
            other.began
            for other in self.of(operation.instance)
            if other.ended >= operation.began >= other.began >= operation.began - LONGEST_WRITE_S
        )

    def may_be_visible(self, wanted: Instance, since: float, until: float = inf) -> set[bool]:
        """Return what a find that began and ended then may have said of an instance: visible or not.

        What an operation decided is out of the question once another was acknowledged that began after it had
        ended. What was never acknowledged has no end: it may have its effect at any time.
        """
        candidates = [operation for operation in self.of(wanted) if operation.began <= until]
        acknowledged = [operation for operation in candidates if operation.acknowledged <= since]
        shown = [
            operation.shows
            for operation in candidates
            if not any(other.began > self._end(operation, candidates) for other in acknowledged)
        ]
        if not self.is_stored(wanted, since):
            shown.append(False)
        return set(shown)

    def _end(self, operation: Operation, all_of_instance: list[Operation]) -> float:
        """Return when an operation had decided what it decides.

        A store decides nothing where nothing was deleted before its end: it only adds a version.
        """
        if operation.kind is Kind.STORE and not any(
            other.kind is Kind.DELETE and other.began <= operation.ended for other in all_of_instance
        ):
            return min(operation.acknowledged, operation.ended)
        return operation.acknowledged
