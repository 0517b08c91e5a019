"""The cluster's record where several hosts share it: in etcd, and on each host's disk as it was seen last.

What holds is the edition with the highest number. Whoever meets a lower one puts his own in its place, so
that an etcd that was lost, or brought back from a backup, has the last edition again as soon as a process
that knows it looks. Without etcd every process goes by its host's disk, and nothing can be changed (design,
rule 10).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog

from cluster.coordination.protocol import ABSENT, Conflict, CoordinationUnavailable
from deploy import record
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cluster.coordination.protocol import Coordination, Entry
    from cluster.settings import Settings
    from deploy.record import Edition, Records

KEY: Final = "record"

log = structlog.get_logger()


class SharedRecord:
    """The record of a cluster of several hosts.

    Parameters
    ----------
    settings : Settings
    coordination : Coordination
        Where it is shared.
    """

    def __init__(self, settings: Settings, coordination: Coordination) -> None:
        self._settings = settings
        self._coordination = coordination

    async def change(self, how: Callable[[Records | None], Records]) -> Records:
        """Replace the record by what `how` makes of it, which is called again when somebody was quicker.

        Raises
        ------
        UserError
            etcd does not answer: the change may have been made all the same. Or the record is damaged, or of
            other sites than the settings name, or that on disk is of another cluster.
        OSError
            This host's disk cannot be written.
        """
        try:
            while True:
                entry = await self._read()
                shared = self._decoded(entry)
                after = record.changed(self._later(shared), how)
                if after == shared or await self._put(after, entry):
                    break
        except CoordinationUnavailable as error:
            raise UserError(
                f"the cluster's record cannot be changed, as etcd does not answer ({error}): look after"
                f" {', '.join(self._settings.etcd.endpoints)} (etcd.endpoints), and do it again"
            ) from error
        await asyncio.to_thread(record.keep, self._settings, after)
        return after.records

    async def refresh(self) -> None:
        """Bring this host's disk up to what is shared, and the reverse, if etcd answers.

        Raises
        ------
        UserError
            The record is damaged, or of other sites than the settings name; or that on disk is of another
            cluster.
        OSError
            This host's disk cannot be written.
        """
        try:
            async with asyncio.timeout(self._settings.etcd.cold_start_s):
                await self._meet(await self._read())
        except (CoordinationUnavailable, TimeoutError) as error:
            log.warning("record.not_refreshed", why=str(error) or "etcd does not answer in time")

    async def follow(self) -> None:
        """Keep this host's disk up to what is shared, and the reverse, until cancelled.

        What is shared and cannot be used is logged, and this host goes on by what it has.
        """
        from cluster.coordination.following import follow

        async for snapshot in follow(self._coordination, KEY):
            try:
                await self._meet(snapshot.entries.get(KEY))
            except (UserError, OSError, CoordinationUnavailable) as error:
                log.warning("record.not_followed", why=str(error))

    async def _read(self) -> Entry | None:
        return (await self._coordination.read(KEY)).entries.get(KEY)

    async def _put(self, edition: Edition, over: Entry | None) -> bool:
        """Share an edition in the place of what was read, unless that was replaced meanwhile."""
        expected = ABSENT if over is None else over.changed
        try:
            await self._coordination.put(KEY, record.encode(edition).encode("utf-8"), expected=expected)
        except Conflict:
            return False
        return True

    async def _meet(self, entry: Entry | None) -> None:
        while True:
            shared = self._decoded(entry)
            latest = self._later(shared)
            if latest is None:
                return
            if latest == shared or await self._put(latest, entry):
                break
            entry = await self._read()
        if latest != shared:
            log.warning(
                "record.shared_again", edition=latest.number, found=None if shared is None else shared.number
            )
        await asyncio.to_thread(record.keep, self._settings, latest)

    def _decoded(self, entry: Entry | None) -> Edition | None:
        return None if entry is None else record.decode(entry.value, self._settings, f"etcd ({KEY})")

    def _later(self, shared: Edition | None) -> Edition | None:
        """Return the later of what is shared and what is on this host's disk."""
        try:
            own = record.edition(self._settings)
        except record.OtherSites:
            raise
        except UserError:
            if shared is None:
                raise
            own = None  # damaged: it is put back from what is shared
        if own is None or shared is None:
            return own or shared
        if not own.is_of(shared):
            raise UserError(
                f"{record.file_of(self._settings)} is of another cluster than the record in etcd: choose"
                " another folder (data_folder) or prefix (etcd.prefix), or move that file away"
            )
        return own if own.number > shared.number else shared


async def change(settings: Settings, how: Callable[[Records | None], Records]) -> Records:
    """Do `SharedRecord.change` over a connection of its own.

    Raises
    ------
    UserError, OSError
    """
    async with _connected(settings) as shared:
        return await shared.change(how)


async def refresh(settings: Settings) -> None:
    """Do `SharedRecord.refresh` over a connection of its own; nothing where no record is shared.

    Raises
    ------
    UserError, OSError
    """
    if settings.etcd.endpoints:
        async with _connected(settings) as shared:
            await shared.refresh()


@asynccontextmanager
async def followed(settings: Settings, store: Coordination | None = None) -> AsyncIterator[None]:
    """Have this host's disk up to what is shared, at once and for as long as the context lasts.

    Nothing is done where no record is shared.

    Parameters
    ----------
    settings : Settings
    store : Coordination, optional
        The process's own, if it has one.

    Raises
    ------
    UserError, OSError
        As `SharedRecord.refresh` does.
    """
    if not settings.etcd.endpoints:
        yield
        return
    async with _connected(settings, store) as shared:
        await shared.refresh()
        following = asyncio.create_task(shared.follow())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


@asynccontextmanager
async def _connected(settings: Settings, store: Coordination | None = None) -> AsyncIterator[SharedRecord]:
    from deploy import compose

    if store is not None:
        yield SharedRecord(settings, store)
        return

    coordination = compose.coordination(settings)
    assert coordination is not None
    try:
        yield SharedRecord(settings, coordination)
    finally:
        await coordination.close()
