"""Objects are brought to a site: from copies that were checked while they were read, to where they are kept.

A copy is always put anew, even where one seems to be: that which is visible need not be durable, and a put
heals. Where a key cannot be written though the site is well (a store may refuse to read, replace or delete an
object whose own description is damaged), another key is taken, which the site's row has to name.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog

from storage_node.grid import keys, manifest
from storage_node.grid.record import put_at
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault
from storage_node.upkeep.notes import MENDED
from storage_node.upkeep.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from cluster.nouns import Buffer, Fact
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.site.protocol import Upload

log = structlog.get_logger()


class Copying:
    """Puts versions and facts at sites.

    Parameters
    ----------
    grid : Grid
    pace : Pace
        How fast.
    """

    def __init__(self, grid: Grid, pace: Pace) -> None:
        self._grid = grid
        self._sites = grid.sites
        self._pace = pace
        self._name = grid.new_name

    async def version(self, row: Row, site: GridSite, key: str) -> str:
        """Put a version's object at a site, and its manifest if it has one; return the key that it got.

        Parameters
        ----------
        row : Row
            With the key at which others have it.
        site : GridSite
        key : str
            The key at which it is to be.

        Raises
        ------
        NoCopy
            No site gives it with the right bytes.
        SiteFailed, ObjectFault
        """
        version = row.version
        await self._pace.spend(version.size_bytes)

        def other() -> str:
            return keys.another_key(version.instance, version.digest, self._name())

        if version.block_digests:
            return await self._at_either(site, key, other, lambda at: self._stream(row, site, at))
        async with aclosing(self._grid.read(version, last=site)) as pieces:
            parts = [piece async for piece in pieces]
        metadata = row.provenance.to_metadata()
        return await self._at_either(
            site, key, other, lambda at: self._put(site, at, parts, version.digest, metadata)
        )

    async def fact(self, fact: Fact, site: GridSite) -> None:
        """Put a fact's object at a site.

        Raises
        ------
        SiteFailed, ObjectFault
        """
        await self._small(site, keys.fact_key(fact), fact.to_json(), {})

    async def _stream(self, row: Row, site: GridSite, key: str) -> None:
        """Put an object block by block, holding two of them, and then the manifest that makes it a copy."""
        version = row.version
        upload = await self._sites.ask(site, site.objects.upload(key, metadata={}), writes=key)
        try:
            await self._write_blocks(row, site, upload)
            await self._sites.ask(site, upload.complete(), writes=key)
            content = manifest.encode(replace(version, key=key), row.provenance)
            manifest_key = keys.manifest_key(version.instance, version.digest)
            await self._small(site, manifest_key, content, row.provenance.to_metadata())
        finally:
            await self._abort(site, upload)

    async def _write_blocks(self, row: Row, site: GridSite, upload: Upload) -> None:
        digests = iter(row.version.block_digests)
        async with aclosing(self._grid.read(row.version, last=site)) as blocks:
            async for block in blocks:
                write = upload.write([block], digest=next(digests))
                await self._sites.ask(site, write, size_bytes=len(block))

    async def _abort(self, site: GridSite, upload: Upload) -> None:
        """Leave nothing behind; harmless after `complete`, and where it fails collection sweeps."""
        try:
            await self._sites.ask(site, upload.abort())
        except SiteFailed as error:
            log.warning("upkeep.upload_left", site=site.name, reason=error.reason)

    async def _small(self, site: GridSite, key: str, content: bytes, metadata: Mapping[str, str]) -> None:
        digest = sha256(content).hexdigest()
        await self._at_either(
            site,
            key,
            lambda: keys.beside(key, self._name()),
            lambda at: self._put(site, at, [content], digest, metadata),
        )

    async def _put(
        self, site: GridSite, key: str, parts: Sequence[Buffer], digest: str, metadata: Mapping[str, str]
    ) -> None:
        await put_at(self._sites, site, key, parts, digest=digest, metadata=metadata)

    async def _at_either(
        self, site: GridSite, key: str, other: Callable[[], str], put: Callable[[str], Awaitable[None]]
    ) -> str:
        """Put at a key, or at another one if that cannot be written; return where it is."""
        try:
            await put(key)
        except ObjectFault as fault:
            another = other()
            log.warning("upkeep.key_given_up", site=site.name, key=key, other=another, reason=str(fault))
            await put(another)
            MENDED.labels(kind="relocated", site=site.name).inc()
            return another
        return key
