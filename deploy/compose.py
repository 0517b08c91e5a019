"""The one composition root: here the settings decide which implementation stands behind each protocol.

It also makes a new cluster. `cluster.json` in the data folder records each site's identity before the site
is made, so that a site is made once: one that is recorded as made and is not there is down, whatever
lies in its place.
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from cluster.nouns import SiteIdentity
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cluster.coordination.protocol import Kind, Member, Registry
    from cluster.settings import Settings, Site
    from storage_node.catalogue.protocol import Catalogue
    from storage_node.grid.grid import Grid
    from storage_node.site.protocol import Objects

RECORD: Final = "cluster.json"


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """What the cluster knows of one of its sites."""

    identity: SiteIdentity
    made: bool
    """Whether both its halves were made to the end: from then on they are never made again."""


def prepare(settings: Settings) -> None:
    """Make the cluster in the data folder, unless it is there. To be called by one process at a time.

    Raises
    ------
    UserError
        The data folder cannot be written, a new site's place is taken, or the settings name other
        sites than the cluster has.
    """
    try:
        for folder in (settings.data_folder, settings.logs_folder, settings.members_folder):
            folder.mkdir(parents=True, exist_ok=True)
        records = _read(settings)
        if records is None:
            records = tuple(
                SiteRecord(SiteIdentity(site.name, str(uuid.uuid4()), generation=1), made=False)
                for site in settings.sites
            )
            for site in settings.sites:
                _refuse_foreign(site)
            _write(settings, records)
        if not all(record.made for record in records):
            for site, record in zip(settings.sites, records, strict=True):
                if not record.made:
                    _make(site, record.identity)
            _sync_above(settings.data_folder)
            _write(settings, tuple(replace(record, made=True) for record in records))
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or settings.data_folder}: {error.strerror or error}:"
            " choose another folder (--data), or make it writable"
        ) from error


def identities(settings: Settings) -> tuple[SiteIdentity, ...]:
    """Return the identities of the cluster's sites, in the order of the settings.

    Raises
    ------
    UserError
        There is no cluster in the data folder, or not one with these sites.
    """
    try:
        records = _read(settings)
    except OSError as error:
        raise UserError(f"cannot read {settings.data_folder / RECORD}: {error.strerror}") from error
    if records is None or not all(record.made for record in records):
        raise UserError(f"there is no cluster in {settings.data_folder}: start one with `atria up`")
    return tuple(record.identity for record in records)


def catalogues(settings: Settings) -> tuple[Catalogue, ...]:
    """Open the sites' catalogues. A site that is not there is so only when it is asked something."""
    from storage_node.catalogue.sqlite import SqliteCatalogue

    return tuple(
        SqliteCatalogue(site.name, site.catalogue_file, identity)
        for site, identity in zip(settings.sites, identities(settings), strict=True)
    )


def objects(settings: Settings) -> tuple[Objects, ...]:
    """Open the sites' objects. A site that is not there is so only when it is asked something."""
    from storage_node.site.file_system import FileSystemObjects

    return tuple(
        FileSystemObjects(site.name, site.objects_folder, identity)
        for site, identity in zip(settings.sites, identities(settings), strict=True)
    )


def grid(settings: Settings) -> Grid:
    """Put the grid together over the cluster's sites."""
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite

    writing = settings.writing
    return Grid(
        [
            GridSite(store.name, store, catalogue)
            for store, catalogue in zip(objects(settings), catalogues(settings), strict=True)
        ],
        copies_before_success=writing.copies_before_success,
        straggler_grace_s=writing.straggler_grace_s,
        site_timeout_s=writing.site_timeout_s,
        probe_interval_s=writing.probe_interval_s,
    )


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
    from cluster.coordination.protocol import RegistryUnavailable

    try:
        return await registry(settings).members(kind)
    except RegistryUnavailable as error:
        raise UserError(f"cannot tell what runs in {settings.data_folder}: {error}") from error


def _make(site: Site, identity: SiteIdentity) -> None:
    from storage_node.catalogue.sqlite import SqliteCatalogue
    from storage_node.site.file_system import FileSystemObjects

    site.catalogue_file.parent.mkdir(parents=True, exist_ok=True)
    FileSystemObjects.create(site.objects_folder, identity)
    SqliteCatalogue.create(site.catalogue_file, identity)
    _sync_above(site.objects_folder)
    _sync_above(site.catalogue_file)


def _refuse_foreign(site: Site) -> None:
    folder, catalogue = site.objects_folder, site.catalogue_file
    taken = folder if folder.exists() and any(folder.iterdir()) else catalogue if catalogue.exists() else None
    if taken is not None:
        raise UserError(
            f"site {site.name}: {taken} is there already, and no {RECORD} says whose it is:"
            " choose another folder, or put the record back"
        )


def _read(settings: Settings) -> tuple[SiteRecord, ...] | None:
    file = settings.data_folder / RECORD
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return None
    try:
        records = {
            entry["name"]: SiteRecord(
                SiteIdentity(entry["name"], entry["site_id"], entry["generation"]), entry["made"]
            )
            for entry in json.loads(text)["sites"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): put a good copy back") from error
    named = [site.name for site in settings.sites]
    if set(named) != set(records):
        raise UserError(
            f"the cluster in {settings.data_folder} has the sites {', '.join(sorted(records))}, the settings"
            f" name {', '.join(sorted(named))}: sites cannot be added or removed yet"
        )
    return tuple(records[name] for name in named)


def _write(settings: Settings, records: tuple[SiteRecord, ...]) -> None:
    entries = [{**asdict(record.identity), "made": record.made} for record in records]
    _replace_durably(settings.data_folder / RECORD, json.dumps({"sites": entries}, indent=2) + "\n")


def _replace_durably(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.new")
    with beside.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
    _sync(file.parent)


def _sync_above(path: Path) -> None:
    """Make a path durable in the folder above it, that in the next, and so on: they may be new as well."""
    for folder in path.parents:
        try:
            _sync(folder)
        except PermissionError:  # nothing of ours can have been made in it
            return


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
