"""C-ECHO as SCP (PS3.7 9.1.5, PS3.4 annex A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage_node.services.reply import reply
from storage_node.services.status import Status

if TYPE_CHECKING:
    from cluster.dicom.association import Association, Message


async def echo(association: Association, message: Message) -> None:
    """Answer that we are here."""
    await association.send(message.context.context_id, reply(message.command, Status.SUCCESS))
