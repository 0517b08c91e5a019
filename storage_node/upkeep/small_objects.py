"""Facts and manifests in a site's bucket: small objects, which are read to see whether they are there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

import structlog

from storage_node.grid import keys, manifest
from storage_node.grid.paged import asked
from storage_node.site.protocol import ObjectFault, ObjectMissing

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.sites import GridSite, Sites

log = structlog.get_logger()


async def has_fact(sites: Sites, site: GridSite, fact: Fact) -> bool:
    """Return whether a site has a fact's object, with the right bytes.

    Raises
    ------
    SiteFailed
    """
    content = fact.to_json()
    return await _has(sites, site, keys.fact_key(fact), lambda found: found == content)


async def has_manifest(sites: Sites, site: GridSite, entry: Entry) -> bool:
    """Return whether a site has the manifest of a streamed version.

    Raises
    ------
    SiteFailed
    """

    def is_right(content: bytes) -> bool:
        try:
            version, _ = manifest.decode(content)
        except ValueError:
            return False
        return (version.instance, version.digest) == (entry.instance, entry.digest)

    return await _has(sites, site, keys.manifest_key(entry.instance, entry.digest), is_right)


async def _has(sites: Sites, site: GridSite, key: str, is_right: Callable[[bytes], bool]) -> bool:
    """Look at a key, and, if what is there will not do, at those beside it (`keys.beside`)."""
    if await _is_right(sites, site, key, is_right):
        return True
    async with aclosing(asked(sites, site, site.objects.list(key.removesuffix(".json")))) as listed:
        beside = [found.key async for found in listed if found.key != key and found.key.endswith(".json")]
    for other in beside:
        if await _is_right(sites, site, other, is_right):
            return True
    return False


async def _is_right(sites: Sites, site: GridSite, key: str, is_right: Callable[[bytes], bool]) -> bool:
    try:
        content = await sites.ask(site, site.objects.get(key))
    except (ObjectMissing, ObjectFault) as error:
        log.warning("upkeep.object_missing", site=site.name, key=key, reason=repr(error))
        return False
    return is_right(content)
