"""C-GET as SCP (PS3.7 9.1.3, PS3.4 C.4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage_node.services.delivery import Delivery
from storage_node.services.identifier import select
from storage_node.services.read_ahead import READ_AHEAD
from storage_node.services.reply import refuse, reply
from storage_node.services.status import Refusal, Status
from storage_node.services.sub_operations import Progress, finish

if TYPE_CHECKING:
    from cluster.dicom.association import Association, Message
    from cluster.settings.live import LiveSettings
    from storage_node.grid.grid import Grid
    from storage_node.services.read_ahead import Room


@dataclass(frozen=True, slots=True)
class GetService:
    """Answers C-GET requests."""

    grid: Grid
    live: LiveSettings
    room: Room

    async def __call__(self, association: Association, message: Message) -> None:
        """Send what was asked for over the association it was asked on, then how it went."""
        settings = self.live.now
        limits, peer = settings.limits, settings.peer(association.calling_ae)
        try:
            selection = await select(
                self.grid,
                message,
                limits,
                lenient_levels=bool(peer.lenient_levels),
                show_rejected=peer.show_rejected,
            )
        except Refusal as refusal:
            await refuse(association, message, refusal, service="get")
            return
        progress = Progress(remaining=len(selection.versions))
        async with Delivery(
            self.grid,
            self.room,
            association,
            limits.memory_limit_bytes,
            corrected=selection.corrected,
        ) as delivery:
            for number, version in enumerate(selection.versions, start=1):
                if association.cancelled(message.command.message_id):
                    await finish(association, message, progress, Status.CANCEL)
                    return
                following = selection.versions[number : number + READ_AHEAD]
                progress.count(version.instance.sop_instance_uid, await delivery.send(version, following))
                if progress.remaining:
                    await association.send(
                        message.context.context_id,
                        reply(message.command, Status.PENDING, **progress.elements(with_remaining=True)),
                    )
        await finish(association, message, progress, progress.outcome(), selection.comment)
