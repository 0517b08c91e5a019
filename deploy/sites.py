"""What stands behind a site's settings: which objects and which catalogue, opened or made."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from deploy.durable import sync, sync_above

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.nouns import Membership, SiteIdentity
    from cluster.settings import Site
    from storage_node.catalogue.protocol import Catalogue
    from storage_node.grid.sites import GridSite
    from storage_node.site.protocol import Objects


def open_site(site: Site, membership: Membership) -> GridSite:
    """Open both halves of a site. One that is not there is so only when it is asked something."""
    from storage_node.grid.sites import GridSite

    identity = membership.identity
    return GridSite(site.name, open_objects(site, identity), open_catalogue(site, identity), membership)


def open_objects(site: Site, identity: SiteIdentity) -> Objects:
    """Open a site's objects."""
    if site.is_s3:
        from deploy import s3

        return s3.open_objects(site, identity)
    from storage_node.site.file_system import FileSystemObjects

    return FileSystemObjects(site.name, site.objects_folder, identity)


def open_catalogue(site: Site, identity: SiteIdentity) -> Catalogue:
    """Open a site's catalogue."""
    from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue

    return SqliteCatalogue(site.name, site.catalogue_file, identity)


def make(site: Site, identity: SiteIdentity) -> None:
    """Make both halves of a new site, durably. Harmless when they were made already.

    Raises
    ------
    UserError
        Its bucket cannot be made.
    OSError
        A folder or file cannot be made, or holds something else.
    """
    site.catalogue_file.parent.mkdir(parents=True, exist_ok=True)
    _make_objects(site, identity)
    _make_catalogue(site, identity)


def may_renew(site: Site, identity: SiteIdentity) -> None:
    """Find out whether `renew` can do anything, as far as that can be told beforehand.

    Raises
    ------
    UserError
        Its bucket cannot be asked, or holds something else.
    """
    if site.is_s3:
        from deploy import s3

        s3.may_renew(site, identity)


def renew(site: Site, identity: SiteIdentity) -> None:
    """Make both halves of a site that lost its state, as the next generation.

    Objects of the same site that are still there stay; a catalogue that is still there is moved aside.

    Raises
    ------
    UserError
        Its bucket cannot be made, or another site's objects are there.
    OSError
        A folder or file cannot be made, or another site's objects are there.
    """
    if site.is_s3:
        from deploy import s3

        s3.renew(site, identity)
    else:
        from storage_node.site.file_system import FileSystemObjects

        FileSystemObjects.renew(site.objects_folder, identity)
        sync_above(site.objects_folder)
    _renew_catalogue(site, identity)


def _make_objects(site: Site, identity: SiteIdentity) -> None:
    if site.is_s3:
        from deploy import s3

        s3.make(site, identity)
        return
    from storage_node.site.file_system import FileSystemObjects

    FileSystemObjects.create(site.objects_folder, identity)
    sync_above(site.objects_folder)


def _make_catalogue(site: Site, identity: SiteIdentity) -> None:
    from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue

    site.catalogue_file.parent.mkdir(parents=True, exist_ok=True)
    SqliteCatalogue.create(site.catalogue_file, identity)
    sync_above(site.catalogue_file)


def _renew_catalogue(site: Site, identity: SiteIdentity) -> None:
    if site.catalogue_file.exists():
        try:
            _make_catalogue(site, identity)
        except FileExistsError:  # that of a former generation, or something else
            pass
        else:
            return
    _move_catalogue_aside(site.catalogue_file, f"before-generation-{identity.generation}")
    _make_catalogue(site, identity)


def _move_catalogue_aside(file: Path, to: str) -> None:
    """Move a database into a folder beside it, with its log and lock: never deleted, it may be wanted yet.

    A log without its database is moved, too: SQLite would take it for that of the new one.

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
