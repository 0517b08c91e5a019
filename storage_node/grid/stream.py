"""A version that is larger than memory: written to the sites while it is still arriving.

It is cut into blocks of `BLOCK_BYTES`. While one block is on its way to the sites and through the digests,
the next is being filled, and no more than these two are held. A site that fails, or does not take a block
within its time limit, is given up, and is owed the copy.
"""

from __future__ import annotations

import asyncio
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Self

import structlog

from cluster.nouns import BLOCK_BYTES
from storage_node.catalogue.protocol import Row
from storage_node.grid import keys, manifest
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites
from storage_node.site.protocol import ObjectFault, SiteUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from cluster.nouns import Buffer, Instance
    from storage_node.grid.arrival import Arrival, Stored
    from storage_node.grid.sites import GridSite
    from storage_node.grid.write import Writer
    from storage_node.site.protocol import Upload

log = structlog.get_logger()


class Stream:
    """One version on its way to the sites: `write`, again and again, then `complete`.

    As a context manager it is aborted at its end, unless it was completed.
    """

    def __init__(self, writer: Writer, instance: Instance | None, upload_id: str) -> None:
        self._writer = writer
        self._sites = writer.sites
        self._key = keys.streamed_key(instance, upload_id)
        self._uploads: dict[str, Upload] = {}
        self._reasons: dict[str, str] = {}
        self._filling: list[Buffer] = []
        self._filled_bytes = 0
        self._written_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._digest = sha256()
        self._block_digests: list[str] = []

    async def open(self) -> None:
        """Begin an upload at each site that is worth trying.

        Raises
        ------
        NotEnoughSites
        """
        tried = self._writer.worth_trying()
        try:
            async with asyncio.TaskGroup() as begun:
                for site in tried:
                    begun.create_task(self._open_at(site))
            self._check()
        except BaseException:
            await self.abort()
            raise

    async def _open_at(self, site: GridSite) -> None:
        try:
            self._uploads[site.name] = await self._sites.ask(
                site, site.objects.upload(self._key, metadata={})
            )
        except (SiteFailed, ObjectFault) as error:
            self._give_up(site.name, error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.abort()

    async def write(self, parts: Sequence[Buffer]) -> None:
        """Append the parts. They are held until their block is written.

        Raises
        ------
        NotEnoughSites
            Too few sites go on with it: it can only be aborted.
        """
        for part in parts:
            rest = memoryview(part).cast("B")
            while self._filled_bytes + rest.nbytes >= BLOCK_BYTES:
                room = BLOCK_BYTES - self._filled_bytes
                self._filling.append(rest[:room])
                self._filled_bytes += room
                rest = rest[room:]
                await self._send_block()
            if rest.nbytes:
                self._filling.append(rest)
                self._filled_bytes += rest.nbytes

    async def _send_block(self) -> None:
        await self._written()
        block, self._filling = self._filling, []
        self._written_bytes += self._filled_bytes
        self._filled_bytes = 0
        self._writing = asyncio.create_task(self._write_block(block))

    async def _written(self) -> None:
        """Wait until the block before is at the sites."""
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                await writing
            except asyncio.CancelledError:
                self._writing = writing
                raise
        self._check()

    async def _write_block(self, block: Sequence[Buffer]) -> None:
        async with asyncio.TaskGroup() as writes:
            writes.create_task(asyncio.to_thread(self._take_digests, block))
            for name, upload in self._alive().items():
                writes.create_task(self._write_at(name, upload, block))

    def _take_digests(self, block: Sequence[Buffer]) -> None:
        digest = sha256()
        for part in block:
            digest.update(part)
            self._digest.update(part)
        self._block_digests.append(digest.hexdigest())

    async def _write_at(self, name: str, upload: Upload, block: Sequence[Buffer]) -> None:
        try:
            await self._sites.ask(self._sites[name], upload.write(block))
        except (SiteFailed, ObjectFault) as error:
            self._give_up(name, error)

    def _give_up(self, name: str, error: SiteFailed | ObjectFault) -> None:
        self._reasons[name] = str(error)
        log.warning("stream.site_given_up", site=name, reason=str(error), key=self._key)

    def _alive(self) -> dict[str, Upload]:
        return {name: upload for name, upload in self._uploads.items() if name not in self._reasons}

    def _check(self) -> None:
        needed = self._writer.quorum.write
        if len(self._alive()) < needed:
            raise NotEnoughSites(len(self._alive()), needed, self._reasons)

    async def complete(self, arrival: Arrival) -> Stored:
        """Write what is left, then the manifest and the rows, as for any version.

        Raises
        ------
        NotEnoughSites
        """
        if self._filled_bytes:
            await self._send_block()
        await self._written()
        version = arrival.version(
            digest=self._digest.hexdigest(),
            key=self._key,
            size_bytes=self._written_bytes,
            block_digests=tuple(self._block_digests),
        )
        row = Row(version, arrival.provenance, arrival.header, arrival.flags)
        puts = {
            name: partial(finish_upload, self._sites[name], upload, row)
            for name, upload in self._alive().items()
        }
        for name in puts:
            del self._uploads[name]
        return await self._writer.write(row, puts)

    async def abort(self) -> None:
        """Leave nothing behind at the sites that can be reached; harmless after `complete`."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()
            await asyncio.wait({writing})
        uploads, self._uploads = self._uploads, {}
        for name, upload in uploads.items():
            self._writer.tasks.spawn(self._abort_at(self._sites[name], upload))

    async def _abort_at(self, site: GridSite, upload: Upload) -> None:
        try:
            await self._sites.ask(site, upload.abort())
        except SiteFailed as error:
            log.warning("stream.left_over", site=site.name, reason=error.reason, key=self._key)


async def finish_upload(site: GridSite, upload: Upload, row: Row) -> None:
    """Make an uploaded object durable, then a copy, by its manifest.

    Raises
    ------
    SiteUnavailable, ObjectFault
    """
    try:
        await upload.complete()
        await put_manifest(site, row)
    except (SiteUnavailable, ObjectFault):
        await upload.abort()
        raise


async def put_manifest(site: GridSite, row: Row) -> None:
    """Put the manifest of a streamed version.

    Raises
    ------
    SiteUnavailable, ObjectFault
    """
    content = manifest.encode(row.version, row.provenance)
    await site.objects.put(
        keys.manifest_key(row.version.instance, row.version.digest),
        [content],
        digest=sha256(content).hexdigest(),
        metadata=row.provenance.to_metadata(),
    )
