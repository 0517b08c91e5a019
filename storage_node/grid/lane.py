"""One site's share of a stream: it takes the blocks in their order, one at a time, and holds a few that wait.

No lane waits for another. One that fails, or is given up, takes no more, and leaves nothing behind at a site
that can be reached.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from storage_node.grid import keys, manifest
from storage_node.grid.record import put_at_either
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster.nouns import Buffer
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.sites import GridSite, Sites
    from storage_node.grid.tasks import Tasks
    from storage_node.site.protocol import Upload

BLOCKS_LIMIT: Final = 2
"""Blocks that one lane holds: the one on its way to the site, and those that wait behind it."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Block:
    """`BLOCK_BYTES` of a version, or the fewer that are its last."""

    parts: Sequence[Buffer]
    size_bytes: int
    digest: str


class Lane:
    """An upload to one site, from its beginning to a copy.

    Parameters
    ----------
    site : GridSite
    key : str
        Where the object is to be.
    sites : Sites
    tasks : Tasks
        Owns the upload until it is complete or aborted.
    changed : callable
        Called when the upload has begun, when a block was taken, and when the lane has failed.
    """

    def __init__(
        self, site: GridSite, key: str, *, sites: Sites, tasks: Tasks, changed: Callable[[], None]
    ) -> None:
        self.site = site
        self.failure: SiteFailed | ObjectFault | None = None
        """Why it takes no more."""
        self._key = key
        self._sites = sites
        self._tasks = tasks
        self._changed = changed
        self._upload: Upload | None = None
        self._blocks: deque[Block | None] = deque()
        self._more = asyncio.Event()
        self._taking = tasks.spawn(self._take())

    @property
    def has_begun(self) -> bool:
        """Whether the site has agreed to take an object."""
        return self._upload is not None

    @property
    def is_full(self) -> bool:
        """Whether it holds as many blocks as it may."""
        return len(self._blocks) >= BLOCKS_LIMIT

    @property
    def is_idle(self) -> bool:
        """Whether it has taken all that it was sent."""
        return not self._blocks

    def send(self, block: Block) -> None:
        """Append a block, which is held until the site has it."""
        self._blocks.append(block)
        self._more.set()

    async def finish(self, row: Row) -> str:
        """Wait for the last block, make the object durable, and a copy by its manifest; return its key.

        Raises
        ------
        SiteFailed, ObjectFault
        """
        self._blocks.append(None)
        self._more.set()
        await self._taking
        if self.failure is not None:
            raise self.failure
        assert self._upload is not None
        try:
            await self._sites.ask(self.site, self._upload.complete(), writes=self._key)
            await self._put_manifest(row)
        except (SiteFailed, ObjectFault):
            self._tasks.spawn(self._abort())
            raise
        return self._key

    async def _put_manifest(self, row: Row) -> None:
        version = row.version
        key = keys.manifest_key(version.instance, version.digest)
        content = manifest.encode(version, row.provenance)
        name = self._key.rpartition("/")[2].removesuffix(".dcm")
        await put_at_either(
            self._sites,
            self.site,
            key,
            keys.beside(key, name),
            [content],
            digest=sha256(content).hexdigest(),
            metadata=row.provenance.to_metadata(),
        )

    def give_up(self, failure: SiteFailed) -> None:
        """Take no more: the others do not wait for it."""
        self._fail(failure)
        self.abort()

    def abort(self) -> None:
        """Leave nothing behind at the site, if it can be reached; never to be called after `finish`."""
        self._taking.cancel()
        self._tasks.spawn(self._abort())

    async def _take(self) -> None:
        try:
            upload = self.site.objects.upload(self._key, metadata={})
            self._upload = await self._sites.ask(self.site, upload, writes=self._key)
            self._changed()
            while (block := await self._next()) is not None:
                write = self._upload.write(block.parts, digest=block.digest)
                await self._sites.ask(self.site, write, size_bytes=block.size_bytes, writes=self._key)
                self._blocks.popleft()
                self._changed()
        except (SiteFailed, ObjectFault) as error:
            self._fail(error)
            self._tasks.spawn(self._abort())
        except Exception as error:  # a fault of our own must not leave the stream waiting for ever
            log.exception("stream.fault", site=self.site.name, key=self._key)
            self._fail(SiteFailed(self.site.name, repr(error)))
            self._tasks.spawn(self._abort())

    async def _next(self) -> Block | None:
        while not self._blocks:
            self._more.clear()
            await self._more.wait()
        return self._blocks[0]

    def _fail(self, failure: SiteFailed | ObjectFault) -> None:
        log.warning("stream.site_given_up", site=self.site.name, reason=str(failure), key=self._key)
        self.failure = failure
        self._blocks.clear()
        self._changed()

    async def _abort(self) -> None:
        await asyncio.wait([self._taking])
        if self._upload is None:
            return
        try:
            await self._sites.ask(self.site, self._upload.abort(), even_down=True)
        except SiteFailed as error:
            log.warning("stream.left_over", site=self.site.name, reason=error.reason, key=self._key)
