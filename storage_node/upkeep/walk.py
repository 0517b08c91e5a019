"""All versions that any catalogue knows, side by side."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import structlog

from cluster.nouns import Instance
from storage_node.grid.sites import SiteFailed

if TYPE_CHECKING:
    from storage_node.grid.sites import Sites

Entry: TypeAlias = tuple[Instance, str, str]
"""A version: instance, digest, and its key at the first site that has it."""

log = structlog.get_logger()


async def union(sites: Sites, failed: set[str]) -> AsyncGenerator[tuple[Entry, Mapping[str, str]]]:
    """Yield each version known, in order, with the key of each site whose catalogue has its row.

    A site whose catalogue does not go on is noted in `failed`.
    """
    walks = {site.name: site.catalogue.walk() for site in sites.up()}
    heads: dict[str, Entry] = {}

    async def go_on(name: str) -> None:
        heads.pop(name, None)
        try:
            head = await sites.ask(sites[name], anext(walks[name], None))
        except SiteFailed as error:
            log.warning("walk.failed", site=name, reason=error.reason)
            failed.add(name)
        else:
            if head is not None:
                heads[name] = head

    for name in walks:
        await go_on(name)
    while heads:
        entry = min(heads.values())
        keys = {name: head[2] for name, head in heads.items() if head[:2] == entry[:2]}
        for name in keys:
            await go_on(name)
        yield entry, keys
    for walk in walks.values():
        await walk.aclose()
