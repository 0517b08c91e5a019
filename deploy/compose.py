"""The one composition root: here the settings decide which implementation stands behind each protocol."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cluster.coordination.registry import Kind, Member, Registry
    from cluster.settings import Settings
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite


def open_sites(settings: Settings) -> tuple[GridSite, ...]:
    """Open the objects and the catalogue of each site, the nearest site first.

    A site that is not there is so only when it is asked something.

    Raises
    ------
    UserError
        There is no cluster in the data folder, or not one with these sites.
    """
    from deploy.roster import RecordRoster

    roster = RecordRoster(settings)
    return tuple(roster.open(membership) for membership in roster.memberships().values())


def grid(settings: Settings) -> Grid:
    """Put the grid together over the cluster's sites.

    Raises
    ------
    UserError
        There is no cluster in the data folder, or not one with these sites.
    """
    from deploy.roster import RecordRoster
    from storage_node.grid.grid import Grid

    roster = RecordRoster(settings)
    opened = [roster.open(membership) for membership in roster.memberships().values()]
    return Grid(opened, settings.writing, roster=roster, deletion=settings.deletion)


@asynccontextmanager
async def running_grid(settings: Settings) -> AsyncIterator[Grid]:
    """Run the grid for as long as the context lasts."""
    running = grid(settings)
    await running.start()
    try:
        yield running
    finally:
        await running.close()


def registry(settings: Settings) -> Registry:
    """Return how the cluster's processes find each other."""
    from cluster.coordination.folder import FolderRegistry

    return FolderRegistry(settings.members_folder)


async def members(settings: Settings, kind: Kind | None = None) -> list[Member]:
    """Return the cluster's processes, of one kind or of all.

    Raises
    ------
    UserError
        Nobody can tell.
    """
    from cluster.coordination.registry import RegistryUnavailable

    try:
        return await registry(settings).members(kind)
    except RegistryUnavailable as error:
        raise UserError(f"cannot tell what runs in {settings.data_folder}: {error}") from error
