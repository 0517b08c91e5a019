"""The C-STORE sub-operations of C-MOVE and C-GET: counting, and telling how it went (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.dicom.transfer_syntaxes import IMPLICIT_VR_LE
from storage_node.services.reply import reply
from storage_node.services.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.dicom.association import Association, Message

_COUNT_LIMIT = 0xFFFF
"""Numbers of sub-operations are US: what is more is told as this (PS3.7 E.1)."""
_WARNINGS = range(0xB000, 0xC000)
"""Statuses of a C-STORE that stored, with something to say of it (PS3.4 B.2.3)."""


@dataclass(slots=True)
class Progress:
    """How far the sub-operations of one request have come."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def count(self, sop_instance_uid: str, status: int) -> None:
        """Count one sub-operation by the status that its C-STORE was answered with."""
        self.remaining -= 1
        if status == Status.SUCCESS:
            self.completed += 1
        elif status in _WARNINGS or status in (0x0001, 0x0107, 0x0116):
            self.warning += 1
        else:
            self.failed += 1
            self.failed_uids.append(sop_instance_uid)

    def elements(self, *, with_remaining: bool) -> dict[str, Any]:
        """Return the counts as command elements; Remaining only in pending and cancel (PS3.7 9.1.4.1.7)."""
        counts = {
            "number_of_completed_suboperations": self.completed,
            "number_of_failed_suboperations": self.failed,
            "number_of_warning_suboperations": self.warning,
        }
        if with_remaining:
            counts["number_of_remaining_suboperations"] = self.remaining
        return {keyword: min(count, _COUNT_LIMIT) for keyword, count in counts.items()}

    def outcome(self) -> Status:
        """Return the final status of a request whose sub-operations were all tried."""
        if self.failed and not self.completed and not self.warning:
            return Status.UNABLE_TO_PERFORM_SUB_OPERATIONS
        return Status.SUB_OPERATIONS_FAILED if self.failed or self.warning else Status.SUCCESS


def failed_uid_list(uids: Sequence[str], *, explicit: bool) -> bytes:
    r"""Return an Identifier with Failed SOP Instance UID List (0008,0058), little endian (PS3.4 C.4.2.1.4.2).

    In Explicit VR the length has 16 bits: of a list too long for that, those that fit are told.
    """
    limit = 0xFFFE if explicit else 0xFFFFFFFE
    value = b"\\".join(uid.encode("ascii", "replace") for uid in uids)
    if len(value) > limit:
        value = value[: value.rindex(b"\\", 0, limit + 1)]
    value += b"\0" * (len(value) % 2)
    head = b"\x08\x00\x58\x00"
    if explicit:
        return head + b"UI" + len(value).to_bytes(2, "little") + value
    return head + len(value).to_bytes(4, "little") + value


async def finish(
    association: Association,
    message: Message,
    progress: Progress,
    status: Status,
    comment: str | None = None,
) -> None:
    """Send the final response, with the Failed SOP Instance UID List if there is one to tell."""
    identifier = None
    if progress.failed_uids:
        explicit = message.context.transfer_syntax != IMPLICIT_VR_LE
        identifier = [failed_uid_list(progress.failed_uids, explicit=explicit)]
    elements = progress.elements(with_remaining=status == Status.CANCEL)
    await association.send(
        message.context.context_id, reply(message.command, status, comment, **elements), identifier
    )
