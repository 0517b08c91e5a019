"""Responses to DIMSE requests (PS3.7 9.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from cluster.dicom.command_set import CommandSet
from storage_node.services.status import Refusal, error_comment

if TYPE_CHECKING:
    from cluster.dicom.association import Association, Message

log = structlog.get_logger()


def reply(request: CommandSet, status: int, comment: str | None = None, **elements: Any) -> CommandSet:
    """Return the response to a request.

    Parameters
    ----------
    request : CommandSet
        Its message ID and Affected SOP UIDs are answered with (PS3.7 9.3.1.2 and the like).
    status : int
        Status (0000,0900).
    comment : str or None
        Error Comment (0000,0902); cut to what the standard allows.
    **elements : Any
        Further elements of the response, by their name in `CommandSet`.
    """
    return CommandSet(
        command_field=request.command_field | 0x8000,
        message_id_being_responded_to=request.message_id,
        affected_sop_class_uid=request.affected_sop_class_uid,
        affected_sop_instance_uid=request.affected_sop_instance_uid,
        status=int(status),
        error_comment=None if comment is None else error_comment(comment),
        **elements,
    )


async def refuse(association: Association, message: Message, refusal: Refusal, *, service: str) -> None:
    """Answer a request that cannot be done; what is left of its data set is passed over.

    Raises
    ------
    AssociationEnded
        The peer went away.
    """
    if message.data_set is not None:
        await message.data_set.discard()
    log.warning(
        f"{service}.refused",
        association=association.id,
        status=f"{refusal.status:04X}",
        reason=refusal.comment,
    )
    await association.send(
        message.context.context_id, reply(message.command, refusal.status, refusal.comment)
    )
