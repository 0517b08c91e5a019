"""C-MOVE as SCP (PS3.7 9.1.4, PS3.4 C.4.2): the destination is one of the settings' AEs."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from cluster.dicom.association import AssociationEnded
from cluster.dicom.requestor import AssociationRejected, ProposedContext, connect
from storage_node.grid.read import NoCopy
from storage_node.services.delivery import Delivery, offers
from storage_node.services.identifier import select
from storage_node.services.read_ahead import READ_AHEAD
from storage_node.services.reply import refuse, reply
from storage_node.services.status import Refusal, Status
from storage_node.services.sub_operations import Progress, finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from cluster.dicom.association import Association, Message
    from cluster.nouns import Instance, Version
    from cluster.settings import Destination, Settings
    from cluster.settings.live import LiveSettings
    from storage_node.catalogue.corrections import Details
    from storage_node.grid.grid import Grid
    from storage_node.services.read_ahead import Room

_CONTEXTS = 128
"""Presentation contexts that one association can propose: the odd numbers of a byte (PS3.8 9.3.2.2)."""
_CONNECTIONS = 3
"""Associations that are tried for one batch, when the destination drops them."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MoveService:
    """Answers C-MOVE requests."""

    grid: Grid
    live: LiveSettings
    room: Room

    async def __call__(self, association: Association, message: Message) -> None:
        """Send what was asked for to the destination, then tell how it went."""
        settings = self.live.now
        try:
            destination = _destination(settings, message)
            peer = settings.peer(association.calling_ae)
            selection = await select(
                self.grid,
                message,
                settings.limits,
                lenient_levels=bool(peer.lenient_levels),
                show_rejected=peer.show_rejected,
            )
        except Refusal as refusal:
            await refuse(association, message, refusal, service="move")
            return
        corrected = {} if destination.as_stored else selection.corrected
        progress = Progress(remaining=len(selection.versions))
        move = _Move(self, settings, association, message, destination, corrected, progress)
        for batch in _batches(selection.versions):
            await move.deliver(batch)
            if move.requestor.ended:
                break
            if move.cancelled:
                await finish(association, message, move.progress, Status.CANCEL)
                return
        comment = move.trouble or selection.comment
        await finish(association, message, move.progress, move.progress.outcome(), comment)


@dataclass(slots=True)
class _Move:
    """One C-MOVE while it runs."""

    service: MoveService
    settings: Settings
    """As they were when it began."""
    requestor: Association
    message: Message
    destination: Destination
    corrected: Mapping[Instance, Details]
    progress: Progress
    trouble: str | None = None

    @property
    def cancelled(self) -> bool:
        return self.requestor.cancelled(self.message.command.message_id)

    async def deliver(self, versions: Sequence[Version]) -> None:
        """Send a batch. What cannot be sent is counted as failed; a lost association is opened anew."""
        waiting = deque(versions)
        for _ in range(_CONNECTIONS):
            try:
                async with self._connected(versions) as association:
                    await self._send_all(association, waiting)
            except (AssociationRejected, AssociationEnded, NoCopy, OSError) as error:
                self.trouble = f"{self.destination.ae_title}: {error}"
                log.warning("move.interrupted", association=self.requestor.id, reason=self.trouble)
                if isinstance(error, AssociationRejected) and error.is_permanent:
                    break
            if not waiting or self.cancelled or self.requestor.ended:
                return
        for version in waiting:
            self.progress.count(version.instance.sop_instance_uid, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS)

    async def _send_all(self, association: Association, waiting: deque[Version]) -> None:
        async with Delivery(
            self.service.grid,
            self.service.room,
            association,
            self.settings.limits.memory_limit_bytes,
            (self.requestor.calling_ae, self.message.command.message_id or 0),
            self.corrected,
        ) as delivery:
            while waiting and not self.cancelled:
                version = waiting.popleft()
                status: int = Status.UNABLE_TO_PERFORM_SUB_OPERATIONS
                try:
                    status = await delivery.send(version, tuple(islice(waiting, READ_AHEAD)))
                finally:
                    self.progress.count(version.instance.sop_instance_uid, status)
                if self.progress.remaining:
                    await self._tell_progress()

    async def _tell_progress(self) -> None:
        elements = self.progress.elements(with_remaining=True)
        await self.requestor.send(
            self.message.context.context_id, reply(self.message.command, Status.PENDING, **elements)
        )

    @asynccontextmanager
    async def _connected(self, versions: Sequence[Version]) -> AsyncIterator[Association]:
        association = await connect(
            self.destination.host,
            self.destination.port,
            calling_ae=self.settings.dicom.ae_title,
            called_ae=self.destination.ae_title,
            contexts=[ProposedContext(sop_class, (syntax,)) for sop_class, syntax in _pairs(versions)],
            limits=self.settings.upper_layer_limits,
        )
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        await association.release()


def _destination(settings: Settings, message: Message) -> Destination:
    name = (message.command.move_destination or "").strip()
    for destination in settings.destinations:
        if destination.ae_title == name:
            return destination
    raise Refusal(Status.MOVE_DESTINATION_UNKNOWN, f"move destination {name!r} is not in the settings")


def _pairs(versions: Sequence[Version]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(pair for version in versions for pair in offers(version)))


def _batches(versions: Sequence[Version]) -> Iterator[list[Version]]:
    """Part the versions so that each batch needs no more contexts than one association has."""
    batch: list[Version] = []
    pairs: set[tuple[str, str]] = set()
    for version in versions:
        more = pairs.union(offers(version))
        if len(more) > _CONTEXTS:
            yield batch
            batch, more = [], set(offers(version))
        batch.append(version)
        pairs = more
    if batch:
        yield batch
