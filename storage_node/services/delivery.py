"""One stored version to one peer, as a C-STORE sub-operation of C-GET or C-MOVE (PS3.4 C.4.2.2, C.4.3.2)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import structlog
from prometheus_client import Counter

from cluster.dicom import client
from storage_node.grid.read import NoCopy
from storage_node.services.conversion import NATIVE, NotConvertible, convert
from storage_node.services.corrected_copy import corrected
from storage_node.services.read_ahead import ReadAhead
from storage_node.services.rewriting import NotCorrectable
from storage_node.services.status import Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from cluster.dicom.association import Association
    from cluster.nouns import Buffer, Instance, Version
    from storage_node.catalogue.corrections import Details
    from storage_node.grid.grid import Grid
    from storage_node.services.read_ahead import Room

_DELIVERED = Counter("atria_delivered_instances_total", "C-STORE sub-operations, by outcome", ["outcome"])

log = structlog.get_logger()


def offers(version: Version) -> tuple[tuple[str, str], ...]:
    """Return the (SOP class, transfer syntax) pairs that a version can be sent in, the stored one first."""
    stored = version.transfer_syntax_uid
    others = tuple(uid for uid in NATIVE[:2] if uid != stored) if stored in NATIVE else ()
    return tuple((version.sop_class_uid, uid) for uid in (stored, *others))


@dataclass(slots=True)
class Delivery:
    """Sends versions over an association that takes them as SCP of the Storage service class.

    As a context manager it lets go at its end of what it read ahead.
    """

    grid: Grid
    room: Room
    association: Association
    """Of either role: what counts is that the peer is SCP in the context, as was negotiated."""
    conversion_limit_bytes: int
    """Largest instance that is converted: conversion holds it in memory, several times over."""
    originator: tuple[str, int] | None = None
    """AE title and message ID of the C-MOVE-RQ that this is a sub-operation of (PS3.7 9.3.1.1)."""
    corrected: Mapping[Instance, Details] = field(default_factory=dict)
    """What of the instances was corrected: their copies are sent so (design, rule 5)."""
    _ahead: ReadAhead = field(init=False)

    def __post_init__(self) -> None:
        self._ahead = ReadAhead(self.grid, self.room)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._ahead.close()

    async def send(self, version: Version, following: Sequence[Version] = ()) -> int:
        """Send one version, and return the status of its C-STORE.

        Parameters
        ----------
        version : Version
        following : sequence of Version
            What is to be sent next, as much of it as is known.

        Raises
        ------
        AssociationEnded
            The peer is gone.
        NoCopy
            The copies gave out in the middle of the data set: the association cannot go on.
        """
        status = await self._send(version, following)
        _DELIVERED.labels(outcome="failed" if status else "success").inc()
        return status

    async def _send(self, version: Version, following: Sequence[Version]) -> int:
        transfer_syntax = self._transfer_syntax(version)
        if transfer_syntax is None:
            return self._failed(
                version, Status.SOP_CLASS_NOT_SUPPORTED, "the peer accepted no context for it as it is stored"
            )
        converted = transfer_syntax != version.transfer_syntax_uid
        if converted and version.size_bytes > self.conversion_limit_bytes:
            return self._failed(version, Status.OUT_OF_RESOURCES, "too large to be converted for the peer")
        async with aclosing(self._data_set(version)) as blocks:
            try:
                first = await anext(blocks, b"")
            except NoCopy as error:
                return self._failed(version, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, str(error))
            await self._ahead.begin(following)
            if converted:
                whole = b"".join([first, *[block async for block in blocks]])
                try:
                    data = convert(whole, version.transfer_syntax_uid, transfer_syntax)
                except NotConvertible as error:
                    return self._failed(version, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, str(error))
                return await self._store(version, transfer_syntax, [data])
            return await self._store(version, transfer_syntax, _chain(first, blocks))

    async def _data_set(self, version: Version) -> AsyncGenerator[Buffer]:
        """Read a version's data set, as it is stored or, if it was, corrected.

        Raises
        ------
        NoCopy
        """
        stored = _data_set(self._ahead.read(version), version.data_set_offset_bytes)
        details = self.corrected.get(version.instance)
        blocks = corrected(stored, version.transfer_syntax_uid, details) if details else stored
        async with aclosing(blocks):
            try:
                async for block in blocks:
                    yield block
            except NotCorrectable as error:
                raise NoCopy(version, {"as it was corrected": str(error)}) from error

    def _transfer_syntax(self, version: Version) -> str | None:
        """Return what to send a version in: as it is stored, else what it can be converted to."""
        for sop_class, transfer_syntax in offers(version):
            try:
                client.context_for(self.association, sop_class, transfer_syntax)
            except client.NoContext:
                continue
            return transfer_syntax
        return None

    async def _store(
        self, version: Version, transfer_syntax: str, data_set: Sequence[Buffer] | AsyncIterator[Buffer]
    ) -> int:
        response = await client.store(
            self.association,
            sop_class_uid=version.sop_class_uid,
            sop_instance_uid=version.instance.sop_instance_uid,
            transfer_syntax_uid=transfer_syntax,
            data_set=data_set,
            move_originator=self.originator,
        )
        status = response.status
        return Status.CANNOT_UNDERSTAND if status is None else status

    def _failed(self, version: Version, status: Status, reason: str) -> int:
        log.warning("delivery.failed", association=self.association.id, digest=version.digest, reason=reason)
        return status


async def _data_set(blocks: AsyncIterator[bytes], offset_bytes: int) -> AsyncGenerator[Buffer]:
    """Leave out what stands before the data set (it ends within the first block)."""
    first = await anext(blocks)
    yield memoryview(first)[offset_bytes:]
    async for block in blocks:
        yield block


async def _chain(first: Buffer, rest: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
    yield first
    async for block in rest:
        yield block
