"""The grid: the thin layer that makes N sites one store.

It writes to W of them before it says so, reads from any, and leaves a debt where a copy is owed. It holds
nothing that its death would lose.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from storage_node.catalogue.protocol import Row
from storage_node.grid import keys, rows
from storage_node.grid.find import Finding
from storage_node.grid.quorum import Quorum
from storage_node.grid.read import Reader
from storage_node.grid.sites import SiteFailed, Sites
from storage_node.grid.stream import Stream
from storage_node.grid.tasks import Tasks
from storage_node.grid.write import NotEnoughSites, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from cluster.nouns import Buffer, Debt, Instance, Version
    from storage_node.catalogue.matching import Query
    from storage_node.grid.arrival import Arrival, Stored
    from storage_node.grid.sites import GridSite, SiteHealth

HEDGE_AFTER_S: Final = 0.25
"""How long a read waits for one site before it asks another as well."""

START_LIMIT_S: Final = 2.0
"""How long the start waits for sites to say that they are there."""

_INLINE_LIMIT_BYTES: Final = 1024 * 1024
"""Up to this size a digest costs the other associations less than the way to a thread and back."""

log = structlog.get_logger()


class Grid:
    """All sites as one store.

    Parameters
    ----------
    sites : sequence of GridSite
        The nearest first.
    copies_before_success : int
        W.
    straggler_grace_s : float
        How long the slower sites are waited for once W hold a copy.
    site_timeout_s : float
        How long one call at one site may take.
    probe_interval_s : float
        How often the sites are probed.
    hedge_after_s : float
        How long a read waits for one site before it asks another as well.

    Raises
    ------
    ValueError
        W is not more than half of the sites and at most all of them.
    """

    def __init__(
        self,
        sites: Sequence[GridSite],
        *,
        copies_before_success: int,
        straggler_grace_s: float,
        site_timeout_s: float,
        probe_interval_s: float,
        hedge_after_s: float = HEDGE_AFTER_S,
    ) -> None:
        self.quorum = Quorum(len(sites), copies_before_success)
        self.sites = Sites(sites, site_timeout_s=site_timeout_s, probe_interval_s=probe_interval_s)
        self._site_timeout_s = site_timeout_s
        self.tasks = Tasks()
        self.writer = Writer(self.sites, self.quorum, self.tasks, straggler_grace_s=straggler_grace_s)
        self._reader = Reader(self.sites, hedge_after_s=hedge_after_s, on_bad_copy=self._on_bad_copy)
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find out which sites are up, and keep watching them; one that hangs is not waited for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT_S):
                await self.sites.probe()
        self._watch = asyncio.create_task(self.sites.watch())

    async def close(self) -> None:
        """Let writes and stragglers end, within their time limits, then let go of the sites."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self.tasks.close(self._site_timeout_s)
        for name in self.sites.names:
            await self.sites[name].objects.close()
            await self.sites[name].catalogue.close()

    async def store(self, arrival: Arrival, parts: Sequence[Buffer]) -> Stored:
        """Store an instance that is in memory.

        When the caller is cancelled the write goes on, to its acknowledgement or its refusal.

        Parameters
        ----------
        arrival : Arrival
        parts : sequence of bytes-like
            The whole Part 10 file. They are not changed, and held until the last site has them or gave up.

        Raises
        ------
        NotEnoughSites
            Fewer than W sites could be written to: nothing was acknowledged.
        """
        tried = self.writer.worth_trying()
        size_bytes = sum(memoryview(part).nbytes for part in parts)
        inline = size_bytes <= _INLINE_LIMIT_BYTES
        digest = _digest(parts) if inline else await asyncio.to_thread(_digest, parts)
        key = keys.object_key(arrival.instance, digest)
        version = arrival.version(digest=digest, key=key, size_bytes=size_bytes)
        metadata = arrival.provenance.to_metadata()
        puts = {
            site.name: partial(site.objects.put, key, parts, digest=digest, metadata=metadata)
            for site in tried
        }
        return await self.writer.write(Row(version, arrival.provenance, arrival.header, arrival.flags), puts)

    async def stream(self, instance: Instance | None) -> Stream:
        """Begin to store an instance that is larger than memory.

        Parameters
        ----------
        instance : Instance or None
            None when its identity is not known yet.

        Raises
        ------
        NotEnoughSites
        """
        stream = Stream(self.writer, instance, uuid.uuid4().hex)
        await stream.open()
        return stream

    def read(self, version: Version) -> AsyncGenerator[bytes]:
        """Read a version's Part 10 file: whole, or block by block if it was streamed; each piece is checked.

        Raises
        ------
        NoCopy
            No site that can be reached gives a copy with the right digest (also after some blocks).
        """
        return self._reader.read(version)

    def find(self, query: Query, limit: int) -> Finding:
        """Find what matches at R catalogues, or at as many as can be reached."""
        sites = self.sites.up() or self.sites.by_health()
        return Finding(
            [site.catalogue for site in sites],
            query,
            limit,
            needed=self.quorum.read,
            answer_timeout_s=self._site_timeout_s,
        )

    async def rows_of(self, instance: Instance) -> tuple[Row, ...]:
        """Return the rows of an instance's versions, the current one first, merged from what can be reached.

        Raises
        ------
        NotEnoughSites
            No catalogue answers.
        """
        return rows.merge((await self.rows_at_sites(instance)).values())

    async def rows_at_sites(self, instance: Instance) -> dict[str, Sequence[Row]]:
        """Return the rows of an instance's versions at each site whose catalogue answers.

        Raises
        ------
        NotEnoughSites
            None answers.
        """
        sites = self.sites.up() or self.sites.by_health()
        answered: dict[str, Sequence[Row]] = {}
        reasons: dict[str, str] = {}

        async def ask(site: GridSite) -> None:
            try:
                answered[site.name] = await self.sites.ask(site, site.catalogue.rows_of(instance))
            except SiteFailed as error:
                reasons[site.name] = error.reason

        await asyncio.gather(*(ask(site) for site in sites))
        if not answered:
            raise NotEnoughSites(0, 1, reasons)
        return answered

    def health(self) -> Mapping[str, SiteHealth]:
        """Return what is known of each site."""
        return self.sites.health()

    def _on_bad_copy(self, debt: Debt) -> None:
        self.tasks.spawn(self._note_bad_copy(debt))

    async def _note_bad_copy(self, debt: Debt) -> None:
        for site in self.sites.up():
            try:
                await self.sites.ask(site, site.catalogue.owe([debt]))
            except SiteFailed as error:
                log.warning("read.debt_not_noted", site=site.name, reason=error.reason)


def _digest(parts: Sequence[Buffer]) -> str:
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
