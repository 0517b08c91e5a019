"""The one composition root: here the settings decide which implementation stands behind each protocol."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from cluster.coordination.protocol import Coordination
    from cluster.coordination.registry import Kind, Member, Registry
    from cluster.coordination.requests import Requests
    from cluster.settings import Settings
    from cluster.settings.live import LiveSettings
    from cluster.settings_store.protocol import SettingsStore
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
async def running_grid(settings: Settings, store: Coordination | None = None) -> AsyncIterator[Grid]:
    """Run the grid for as long as the context lasts, over the sites as the cluster's record has them.

    Parameters
    ----------
    settings : Settings
    store : Coordination, optional
        The process's own, if it has one (`joined`).

    Raises
    ------
    UserError
        There is no cluster, or not one with these sites.
    """
    from deploy import shared_record

    async with shared_record.followed(settings, store):
        running = grid(settings)
        await running.start()
        try:
            yield running
        finally:
            await running.close()


class Cluster(NamedTuple):
    """What a process shares with the others."""

    coordination: Coordination | None
    """None on one host, which needs none."""
    registry: Registry
    requests: Requests


@asynccontextmanager
async def joined(settings: Settings, name: str) -> AsyncIterator[Cluster]:
    """Be one of the cluster's processes for as long as the context lasts.

    Parameters
    ----------
    settings : Settings
    name : str
        Of the process: below it, it keeps what it must know when it starts while etcd is away.
    """
    store = coordination(settings)
    if store is None:
        yield Cluster(None, registry(settings), _requests(settings, None))
        return
    from cluster.coordination.leased_registry import grace_s
    from cluster.coordination.remembered import RememberedRegistry

    remembered = RememberedRegistry(
        registry(settings, store),
        settings.remembered_folder / name / "members.json",
        cold_start_s=settings.etcd.cold_start_s,
        grace_s=grace_s(settings.etcd.membership_lease_s),
    )
    try:
        yield Cluster(store, remembered, _requests(settings, store))
    finally:
        await store.close()


def coordination(settings: Settings) -> Coordination | None:
    """Return the store that the hosts share, to be closed by the caller; None where there is one host."""
    if not settings.etcd.endpoints:
        return None
    from cluster.coordination.etcd import EtcdCoordination

    return EtcdCoordination(settings.etcd)


def registry(settings: Settings, store: Coordination | None = None) -> Registry:
    """Return how the cluster's processes find each other.

    Parameters
    ----------
    settings : Settings
    store : Coordination, optional
        What `coordination` returned; without it, several hosts need a connection more, which ends with the
        process.
    """
    store = store or coordination(settings)
    if store is None:
        from cluster.coordination.folder import FolderRegistry

        return FolderRegistry(settings.members_folder)
    from cluster.coordination.leased_registry import LeasedRegistry

    etcd = settings.etcd
    return LeasedRegistry(store, etcd.membership_lease_s, patience_s=etcd.cold_start_s)


async def members(settings: Settings, kind: Kind | None = None) -> list[Member]:
    """Return the cluster's processes, of one kind or of all.

    Raises
    ------
    UserError
        Nobody can tell.
    """
    from cluster.coordination.registry import RegistryUnavailable

    async with _opened(settings) as store:
        try:
            return await registry(settings, store).members(kind)
        except RegistryUnavailable as error:
            raise UserError(f"cannot tell what runs in {settings.data_folder}: {error}") from error


def settings_store(settings: Settings, file: Path, coordination: Coordination | None) -> SettingsStore:
    """Return where the cluster keeps the settings that its hosts share.

    Parameters
    ----------
    settings : Settings
    file : Path
        The settings file (`Overrides.file`): on one host they are kept there.
    coordination : Coordination or None
        What several hosts agree by.
    """
    from cluster.settings import shared
    from cluster.settings_store.coordinated import CoordinatedSettings
    from deploy.command.who import account
    from deploy.settings_file import FileSettings
    from deploy.settings_live import KeptSettings

    if coordination is None:
        return FileSettings(file, settings.data_folder)
    kept = KeptSettings(settings.data_folder).read()
    why = "as the settings file had it" if kept is None else "as this host saw it last"
    return CoordinatedSettings(coordination, kept or shared.of(settings), by=account(), why=why)


def live(
    settings: Settings, file: Path, coordination: Coordination | None
) -> AbstractAsyncContextManager[LiveSettings]:
    """Follow the settings that the cluster's hosts share, as `settings_store` finds them.

    Where several hosts share them and nobody answers in time, what this host saw last holds.
    """
    from deploy.settings_live import KeptSettings, following

    store = settings_store(settings, file, coordination)
    kept = None if coordination is None else KeptSettings(settings.data_folder)
    return following(settings, store, kept, cold_start_s=settings.etcd.cold_start_s)


@asynccontextmanager
async def requests(settings: Settings) -> AsyncIterator[Requests]:
    """Look where the cluster's processes are asked to end, or to come back, as long as the context lasts."""
    async with _opened(settings) as store:
        yield _requests(settings, store)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Coordination | None]:
    """Open what `coordination` returns, for as long as the context lasts."""
    store = coordination(settings)
    try:
        yield store
    finally:
        if store is not None:
            await store.close()


def _requests(settings: Settings, store: Coordination | None) -> Requests:
    if store is None:
        from cluster.coordination.folder_requests import FolderRequests

        return FolderRequests(settings.requests_folder)
    from cluster.coordination.stored_requests import StoredRequests

    return StoredRequests(store)
