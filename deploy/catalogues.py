"""Sites' catalogues: in a file, or in a PostgreSQL database, opened, made and made anew."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import stat
from typing import TYPE_CHECKING, TypeVar

import structlog

from cluster.durable import sync, sync_above
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from cluster.nouns import SiteIdentity
    from cluster.settings import Settings, Site
    from storage_node.catalogue.examination import Examined
    from storage_node.catalogue.postgresql.database import Location
    from storage_node.catalogue.protocol import Catalogue
    from storage_node.catalogue.revisions import Upgraded

T = TypeVar("T")

log = structlog.get_logger()


def open_catalogue(site: Site, identity: SiteIdentity) -> Catalogue:
    """Open a site's catalogue. One that is not there is so only when it is asked something."""
    if site.is_postgresql:
        from storage_node.catalogue.postgresql.catalogue import PostgresqlCatalogue

        return PostgresqlCatalogue(site.name, location(site), identity)
    from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue

    return SqliteCatalogue(site.name, site.catalogue_file, identity)


def location(site: Site) -> Location:
    """Return where a site's database is."""
    from storage_node.catalogue.postgresql.database import Location

    passfile = site.catalogue_passfile
    return Location(site.catalogue, None if passfile is None else passfile.expanduser())


def problems(site: Site) -> list[str]:
    """Return what of the settings of a site's catalogue cannot be, a line each."""
    if not site.is_postgresql or (passfile := location(site).passfile) is None:
        return []
    said = f"site {site.name}: catalogue_passfile: "
    try:
        mode = passfile.stat().st_mode
    except OSError as error:
        return [f"{said}cannot read {passfile}: {error.strerror}"]
    if mode & (stat.S_IRWXG | stat.S_IRWXO):  # then no client of PostgreSQL takes a password from it
        return [f"{said}{passfile} is not for its owner alone, and not used: `chmod 600 {passfile}`"]
    return []


def held(site: Site) -> SiteIdentity | None:
    """Return whose catalogue is in a site's file or database; None if there is none. Blocks.

    Raises
    ------
    UserError
        Its database cannot be reached.
    """
    if site.is_postgresql:
        from storage_node.catalogue.postgresql import database

        return _do(site, database.held(site.name, location(site)))
    from storage_node.catalogue.sqlite import database as of_files

    return of_files.held(site.catalogue_file)


def make(site: Site, identity: SiteIdentity) -> None:
    """Make a new site's catalogue, durably. Harmless when it was made already. Blocks.

    Raises
    ------
    UserError
        Its database cannot be reached, or holds something else.
    OSError
        Its file cannot be made, or holds something else.
    """
    if site.is_postgresql:
        from storage_node.catalogue.postgresql import database

        _do(site, database.create(location(site), identity))
    else:
        _make_file(site.catalogue_file, identity)


async def examine(site: Site, *, thoroughly: bool) -> Examined:
    """Find out what a site's database is like, and what it holds, whatever that is.

    Raises
    ------
    CatalogueUnavailable
        It cannot be reached.
    """
    if site.is_postgresql:
        from storage_node.catalogue.postgresql import examining

        return await examining.examine(site.name, location(site))
    from storage_node.catalogue.sqlite import examining as of_files

    return await asyncio.to_thread(of_files.examine, site.name, site.catalogue_file, thoroughly=thoroughly)


def upgrade(site: Site) -> Upgraded:
    """Bring a site's catalogue to the schema of this release. Harmless when it has it. Blocks.

    Raises
    ------
    CatalogueUnavailable
        `NewerSchema` where that is a later one; it cannot be reached, or holds no catalogue.
    """
    if site.is_postgresql:
        from storage_node.catalogue.postgresql import upgrading

        return asyncio.run(upgrading.upgrade(site.name, location(site)))
    from storage_node.catalogue.sqlite import upgrading as of_files

    return of_files.upgrade(site.name, site.catalogue_file)


def upgrade_all(settings: Settings) -> None:
    """Upgrade the catalogues of a cluster that is about to start, those that can be reached. Blocks.

    Raises
    ------
    UserError
        One was upgraded by a newer Atria.
    """
    from storage_node.catalogue.protocol import CatalogueUnavailable
    from storage_node.catalogue.revisions import NewerSchema

    for site in settings.sites:
        try:
            upgrade(site)
        except NewerSchema as error:
            raise UserError(f"{error}: start a release that is as new") from error
        except CatalogueUnavailable as error:  # a cluster starts without a site
            log.warning("site.wrong", site=site.name, why=str(error))


def may_renew(site: Site, identity: SiteIdentity) -> None:
    """Find out whether `renew` can do anything, as far as that can be told beforehand. Blocks.

    Raises
    ------
    UserError
        Its database cannot be reached, or holds another site's catalogue.
    """
    if site.is_postgresql:
        _do(site, _refuse_another_sites(location(site), identity))


def renew(site: Site, identity: SiteIdentity) -> str | None:
    """Make the catalogue of a site that lost its state; one that is still there is moved aside. Blocks.

    Returns
    -------
    str or None
        Where that is now; None if there was none.

    Raises
    ------
    UserError
        Its database cannot be reached, or holds another site's catalogue.
    OSError
        Its file cannot be made.
    """
    if site.is_postgresql:
        return _do(site, _renew_database(location(site), identity))
    aside = _renew_file(site.catalogue_file, identity)
    return None if aside is None else str(aside)


def _do(site: Site, work: Coroutine[None, None, T]) -> T:
    from storage_node.catalogue.protocol import CatalogueUnavailable

    try:
        return asyncio.run(work)
    except FileExistsError as error:
        raise UserError(f"site {site.name}: {error}: choose another database (catalogue)") from error
    except CatalogueUnavailable as error:
        raise UserError(str(error)) from error


async def _refuse_another_sites(location: Location, identity: SiteIdentity) -> None:
    from storage_node.catalogue.postgresql import database

    held = await database.held(identity.name, location)
    if held is not None and held.site_id != identity.site_id:
        raise FileExistsError(f"{location} holds the catalogue of site {held.name}, {held.site_id}")


async def _renew_database(location: Location, identity: SiteIdentity) -> str | None:
    from storage_node.catalogue.postgresql import database

    await _refuse_another_sites(location, identity)
    try:
        await database.create(location, identity)
    except FileExistsError:  # that of a former generation
        to = f"before_generation_{identity.generation}"
        await database.move_aside(identity.name, location, to)
        await database.create(location, identity)
        return f"schema {database.SCHEMA}_{to} of {location}"
    return None


def _make_file(file: Path, identity: SiteIdentity) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue

    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        SqliteCatalogue.create(file, identity)
    except (sqlite3.Error, SQLAlchemyError) as error:  # the disk is full, say: SQLite does not tell by errno
        raise OSError(errno.EIO, str(getattr(error, "orig", error)), str(file)) from error
    sync_above(file)


def _renew_file(file: Path, identity: SiteIdentity) -> Path | None:
    if file.exists():
        try:
            _make_file(file, identity)
        except FileExistsError:  # that of a former generation, or something else
            pass
        else:
            return None
    aside = _move_file_aside(file, f"before-generation-{identity.generation}")
    _make_file(file, identity)
    return aside


def _move_file_aside(file: Path, to: str) -> Path | None:
    """Move a database into a folder beside it, with its log and lock: never deleted, it may be wanted yet.

    A log without its database is moved, too: SQLite would take it for that of the new one.

    Returns
    -------
    Path or None
        The folder; None if there was nothing to be moved.

    Raises
    ------
    FileExistsError
        Another one was moved there before.
    OSError
    """
    aside = file.parent / f"{file.name}.{to}"
    for one in (file, *(file.with_name(f"{file.name}-{suffix}") for suffix in ("wal", "shm", "lock"))):
        if one.exists():
            aside.mkdir(exist_ok=True)
            if (aside / one.name).exists():
                raise FileExistsError(errno.EEXIST, "a former catalogue is here already", str(aside))
            one.rename(aside / one.name)
            sync(aside)
            sync(file.parent)
    return aside if aside.exists() else None
