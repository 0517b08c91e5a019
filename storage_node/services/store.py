"""C-STORE as SCP (PS3.7 9.1.1, PS3.4 annex B): what arrives is kept as it is, or refused with a reason.

Refused is only what cannot be told apart from something else: an instance whose identity cannot be read
(0xC000) or is not that of the command (0xA900), and one that was cut short (0xC000). Everything else that
is odd is kept, and its row says what was odd.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Histogram

from cluster.dicom import part10
from cluster.dicom.header import HeaderError
from cluster.nouns import BLOCK_BYTES, Instance, Provenance
from storage_node.grid.description import Description
from storage_node.grid.write import NotEnoughSites
from storage_node.services.reply import refuse, reply
from storage_node.services.status import Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.dicom.association import Association, DataSetStream, Message
    from cluster.nouns import Buffer
    from cluster.settings.live import LiveSettings
    from storage_node.grid.arrival import Arrival, Stored
    from storage_node.grid.grid import Grid
    from storage_node.services.budget import Budget
    from storage_node.services.choosing import Choosing
    from storage_node.services.rejecting import Rejecting

_STORED = Counter("atria_stored_instances_total", "Instances that were acknowledged", ["path"])
_REFUSED = Counter("atria_refused_instances_total", "Instances that were refused, by status", ["status"])
_FLAGGED = Counter("atria_flagged_instances_total", "Instances that were kept though odd", ["flag"])
_BYTES = Counter("atria_stored_bytes_total", "Bytes of data sets that were acknowledged")
_SECONDS = Histogram("atria_store_seconds", "From the last fragment of an instance to its answer")

_SMALL_BYTES = 1024 * 1024
"""An instance up to this size may be held without asking the budget."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoreService:
    """Answers C-STORE requests."""

    grid: Grid
    live: LiveSettings
    budget: Budget
    choosing: Choosing
    rejecting: Rejecting

    async def __call__(self, association: Association, message: Message) -> None:
        """Receive one instance, store it, and answer.

        Raises
        ------
        AssociationEnded
            The peer went away; nothing of the instance is left, or all of it.
        """
        try:
            stored = await self._receive(association, message)
            await self.choosing.classify(stored)
            await self.rejecting.apply(stored.version, by=association.calling_ae)
        except Refusal as refusal:
            _REFUSED.labels(status=f"{refusal.status:04X}").inc()
            await refuse(association, message, refusal, service="store")
            return
        log.debug(
            "store.acknowledged", association=association.id, digest=stored.version.digest, owed=stored.owed
        )
        await association.send(message.context.context_id, reply(message.command, Status.SUCCESS))

    async def _receive(self, association: Association, message: Message) -> Stored:
        data_set = message.data_set
        if data_set is None:
            raise Refusal(Status.CANNOT_UNDERSTAND, "C-STORE without a data set")
        limits = self.live.now.limits
        incoming = _Incoming(association, message, limits.header_limit_bytes)
        held = await data_set.read(_SMALL_BYTES)
        is_small = data_set.at_end
        if is_small:
            return await self._store_held(incoming, held)
        async with self.budget.hold(limits.memory_limit_bytes):
            held += await data_set.read(limits.memory_limit_bytes - _SMALL_BYTES)
            if data_set.at_end:
                return await self._store_held(incoming, held)
            return await self._store_streamed(incoming, held, data_set)

    async def _store_held(self, incoming: _Incoming, held: Sequence[Buffer]) -> Stored:
        started = perf_counter()
        incoming.look_at(held)
        try:
            stored = await self.grid.store(incoming.arrival(), [incoming.file_meta, *held])
        except NotEnoughSites as error:
            raise _out_of_resources(error) from error
        incoming.count("held", started)
        return stored

    async def _store_streamed(
        self, incoming: _Incoming, held: list[memoryview], data_set: DataSetStream
    ) -> Stored:
        incoming.look_at(held)
        try:
            async with await self.grid.stream(incoming.instance) as stream:
                await stream.write([incoming.file_meta, *held])
                held.clear()
                while parts := await data_set.read(BLOCK_BYTES):
                    incoming.look_at(parts)
                    await stream.write(parts)
                started = perf_counter()
                stored = await stream.complete(incoming.arrival())
        except NotEnoughSites as error:
            raise _out_of_resources(error) from error
        incoming.count("streamed", started)
        return stored


class _Incoming:
    """One instance while it arrives: who it says it is, and what is odd about it."""

    def __init__(self, association: Association, message: Message, header_limit_bytes: int) -> None:
        command = message.command
        if not command.affected_sop_class_uid or not command.affected_sop_instance_uid:
            raise Refusal(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without Affected SOP Class or Instance UID")
        self._sop_class_uid = command.affected_sop_class_uid
        self._sop_instance_uid = command.affected_sop_instance_uid
        transfer_syntax_uid = message.context.transfer_syntax
        self._provenance = Provenance(
            datetime.now(UTC), association.calling_ae, association.called_ae, association.source
        )
        self._description = Description(
            self._sop_class_uid, transfer_syntax_uid, header_limit_bytes=header_limit_bytes
        )
        self._received_bytes = 0
        try:
            self.file_meta = part10.file_meta(
                self._sop_class_uid, self._sop_instance_uid, transfer_syntax_uid
            )
        except ValueError as error:
            raise Refusal(Status.CANNOT_UNDERSTAND, f"a UID cannot be kept: {error}") from error
        """What comes before the data set; what it says of the data set is compared in `arrival`."""

    @property
    def instance(self) -> Instance | None:
        """Which instance it is, as soon as that has been read."""
        return self._description.instance

    def look_at(self, parts: Sequence[Buffer]) -> None:
        """Follow the data set's structure through its next bytes."""
        for part in parts:
            self._received_bytes += len(part)
            try:
                self._description.feed(part)
            except HeaderError as error:
                raise Refusal(Status.CANNOT_UNDERSTAND, str(error)) from error

    def arrival(self) -> Arrival:
        """Judge the instance, now that all of it is here.

        Raises
        ------
        Refusal
            It was cut short, lacks its identity, or is not what the command says.
        """
        header = self._description.header
        try:
            header.close()
        except HeaderError as error:
            raise Refusal(Status.CANNOT_UNDERSTAND, str(error)) from error
        if header.missing_bytes:
            raise Refusal(
                Status.CANNOT_UNDERSTAND,
                f"the data set is cut short: {header.missing_bytes} bytes are missing",
            )
        instance = self.instance
        if instance is None:
            raise Refusal(Status.CANNOT_UNDERSTAND, f"the data set has no {self._missing_uid()}")
        if instance.sop_instance_uid != self._sop_instance_uid:
            raise Refusal(Status.DATA_SET_DOES_NOT_MATCH, "SOP Instance UID differs from the command's")
        if header.sop_class_uid not in (self._sop_class_uid, None):
            raise Refusal(Status.DATA_SET_DOES_NOT_MATCH, "SOP Class UID differs from the command's")
        return self._description.arrival(self._provenance, data_set_offset_bytes=len(self.file_meta))

    def count(self, path: str, started: float) -> None:
        """Count it as stored, and how long that took since all of it was here."""
        _STORED.labels(path=path).inc()
        _BYTES.inc(self._received_bytes)
        _SECONDS.observe(perf_counter() - started)
        for flag in self._description.flags:
            _FLAGGED.labels(flag=flag).inc()

    def _missing_uid(self) -> str:
        header = self._description.header
        if header.sop_instance_uid is None:
            return "SOP Instance UID"
        return "Series Instance UID" if header.study_instance_uid else "Study Instance UID"


def _out_of_resources(error: NotEnoughSites) -> Refusal:
    why = "; ".join(f"{site}: {reason}" for site, reason in error.reasons.items())
    return Refusal(
        Status.OUT_OF_RESOURCES,
        f"{error.answered} of the {error.needed} sites needed answered{f': {why}' if why else ''}",
    )
