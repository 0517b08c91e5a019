"""A new cluster whose settings name places that hold a site already: what is there is used as it is.

The record may have been lost, or another data folder taken. Both halves of a site say whose they are, so a
site is known by what lies in its places. What they do not say is whether it had everything: whoever is taken
up has no vote until it was compared with the others (design, rule 8).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy import catalogues, sites
from deploy.errors import UserError

if TYPE_CHECKING:
    from cluster.nouns import SiteIdentity
    from cluster.settings import Site


@dataclass(frozen=True, slots=True)
class Adopted:
    """A site that is there already."""

    identity: SiteIdentity
    has_catalogue: bool
    """Whether it needs none made from its objects."""
    said: str
    """What is told of it: a line."""


def look(site: Site, recorded: SiteIdentity) -> Adopted | None:
    """Find out what a site's places hold. Blocks.

    Parameters
    ----------
    site : Site
    recorded : SiteIdentity
        What it is to be made as, which may have been begun.

    Returns
    -------
    Adopted or None
        None where it is to be made, or whoever makes it refuses what is there.

    Raises
    ------
    UserError
        The two halves are not of one site; or a place cannot be asked.
    """
    objects, catalogue = sites.held(site), catalogues.held(site)
    found = objects or catalogue
    if found is None or found.name != site.name or recorded in (objects, catalogue):
        return None
    where = f"the catalogue at {site.catalogue}"
    if objects is None:
        raise UserError(
            f"site {site.name}: {where} is of {_worded(found)}, and {_place(site)} holds no objects:"
            " name the place where they are (objects, endpoint), or another catalogue"
        )
    if catalogue is None:
        said = f"{_place(site)} already holds objects of {_worded(objects)}, and there is no catalogue"
        how = f"it is made from them, at {site.catalogue}"
        return Adopted(objects, has_catalogue=False, said=f"site {site.name}: {said}: {how}")
    if objects != catalogue:
        raise UserError(
            f"site {site.name}: the objects at {_place(site)} are of {_worded(objects)}, and {where} is of"
            f" {_worded(catalogue)}: name two that belong together (objects, catalogue)"
        )
    holds = asyncio.run(_holds(site, objects))
    whose = f"site id {objects.site_id}, generation {objects.generation}"
    said = f"site {site.name}: {where} already holds {holds} ({whose}): used as it is"
    return Adopted(objects, has_catalogue=True, said=said)


async def _holds(site: Site, identity: SiteIdentity) -> str:
    """Return how much a catalogue holds, in words."""
    from storage_node.catalogue.protocol import CatalogueUnavailable

    catalogue = catalogues.open_catalogue(site, identity)
    try:
        counts = await catalogue.counts()
    except CatalogueUnavailable as error:  # of an older schema, say, which is told, and mended, elsewhere
        return f"what cannot be counted now, as {error.reason},"
    finally:
        await catalogue.close()
    return f"{counts.studies} studies, {counts.instances} instances"


def _worded(identity: SiteIdentity) -> str:
    return f"site {identity.name} ({identity.site_id}, generation {identity.generation})"


def _place(site: Site) -> str:
    return f"{site.objects} at {site.endpoint}" if site.is_s3 else site.objects
