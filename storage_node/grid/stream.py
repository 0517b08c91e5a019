"""A version that is larger than memory: written to the sites while it is still arriving.

It is cut into blocks of `BLOCK_BYTES`. Each site takes them at its own pace, in a lane of its own, and may
be `BLOCKS_LIMIT` behind. So no more is held than these blocks, and the one that is being filled. A site for
which W others stand idle for longer than the grace, and `SLOWDOWN_LIMIT` of the time that it all takes, is
given up, and owed the copy.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from cluster.nouns import BLOCK_BYTES
from storage_node.catalogue.protocol import Row
from storage_node.grid import keys
from storage_node.grid.lane import BLOCKS_LIMIT, Block, Lane
from storage_node.grid.sites import SiteFailed
from storage_node.grid.write import NotEnoughSites

if TYPE_CHECKING:
    from collections.abc import Sequence
    from hashlib import _Hash
    from types import TracebackType

    from cluster.nouns import Buffer, Instance
    from storage_node.grid.arrival import Arrival, Stored
    from storage_node.grid.sites import GridSite
    from storage_node.grid.write import Writer

SLOWDOWN_LIMIT: Final = 0.2
"""Part of the time of a stream for which the slower sites may hold up the others, beside the grace."""


class Stream:
    """One version on its way to the sites: `open`, `write`, again and again, then `complete`.

    As a context manager it is aborted at its end, unless it was completed.
    """

    def __init__(self, writer: Writer, instance: Instance | None, upload_id: str) -> None:
        self._writer = writer
        self._key = keys.streamed_key(instance, upload_id)
        self._lanes: dict[str, Lane] = {}
        self._changed = asyncio.Event()
        self._opened_s = _time_s()
        self._held_up_s = 0.0
        """For how long W lanes have stood idle while another was full."""
        self._filling: list[Buffer] = []
        self._filled_bytes = 0
        self._written_bytes = 0
        self._digest = sha256()
        self._digesting: asyncio.Task[None] | None = None
        self._block_digests: list[str] = []

    async def open(self) -> None:
        """Begin an upload at each site that is worth trying; return when W have agreed.

        Raises
        ------
        NotEnoughSites
        """
        for site in self._writer.worth_trying():
            self._lanes[site.name] = Lane(
                site,
                self._key,
                sites=self._writer.sites,
                tasks=self._writer.tasks,
                changed=self._changed.set,
            )
        try:
            while sum(lane.has_begun for lane in self._alive()) < self._writer.quorum.write:
                await self._change()
        except BaseException:
            self.abort()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    async def write(self, parts: Sequence[Buffer]) -> None:
        """Append the parts. They are not changed, and held until the last site has them or is given up.

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
        """Send what is filled. Its own digest goes with it, the file's is taken in a thread beside."""
        await self._room()
        parts, self._filling = self._filling, []
        size_bytes, self._filled_bytes = self._filled_bytes, 0
        await self._digested()
        self._digesting = self._writer.tasks.spawn(asyncio.to_thread(_update, self._digest, parts))
        digest = sha256()
        await asyncio.to_thread(_update, digest, parts)
        block = Block(parts, size_bytes, digest.hexdigest())
        self._block_digests.append(block.digest)
        self._written_bytes += size_bytes
        for lane in self._alive():
            lane.send(block)

    async def _digested(self) -> None:
        """Wait until the file's digest has taken the block before."""
        if self._digesting is not None:
            await asyncio.shield(self._digesting)

    async def _room(self) -> None:
        """Wait until every lane has room for a block, or give up those that hold W others up for too long."""
        while full := [lane for lane in self._alive() if lane.is_full]:
            if sum(lane.is_idle for lane in self._alive()) < self._writer.quorum.write:
                await self._change()
                continue
            began_s = _time_s()
            tolerated_s = self._writer.straggler_grace_s + SLOWDOWN_LIMIT * (began_s - self._opened_s)
            try:
                async with asyncio.timeout_at(began_s + tolerated_s - self._held_up_s):
                    await self._change()
            except TimeoutError:
                for lane in full:
                    lane.give_up(SiteFailed(lane.site.name, f"it is {BLOCKS_LIMIT} blocks behind"))
            self._held_up_s += _time_s() - began_s
        self._check()

    async def _change(self) -> None:
        """Wait until something has changed in a lane."""
        self._check()
        self._changed.clear()
        await self._changed.wait()
        self._check()

    def _alive(self) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.failure is None]

    def _check(self) -> None:
        needed = self._writer.quorum.write
        if len(alive := self._alive()) < needed:
            reasons = {name: str(lane.failure) for name, lane in self._lanes.items() if lane.failure}
            raise NotEnoughSites(len(alive), needed, reasons)

    async def complete(self, arrival: Arrival) -> Stored:
        """Write what is left, then the manifest and the rows, as for any version.

        Raises
        ------
        NotEnoughSites
        """
        if self._filled_bytes:
            await self._send_block()
        await self._digested()
        self._check()
        version = arrival.version(
            digest=self._digest.hexdigest(),
            key=self._key,
            size_bytes=self._written_bytes,
            block_digests=tuple(self._block_digests),
        )
        row = Row(version, arrival.provenance, arrival.header, arrival.flags)
        lanes = {lane.site.name: lane for lane in self._alive()}
        self._lanes.clear()

        async def finish(site: GridSite) -> str:
            return await lanes[site.name].finish(row)

        return await self._writer.write(row, [lane.site for lane in lanes.values()], finish)

    def abort(self) -> None:
        """Leave nothing behind at the sites that can be reached; harmless after `complete`."""
        for lane in self._alive():
            lane.abort()
        self._lanes.clear()


def _time_s() -> float:
    return asyncio.get_running_loop().time()


def _update(digest: _Hash, parts: Sequence[Buffer]) -> None:
    for part in parts:
        digest.update(part)
