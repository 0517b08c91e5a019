"""What stands behind a site's settings: which objects and which catalogue, opened or made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.durable import sync_above
from deploy import catalogues

if TYPE_CHECKING:
    from cluster.nouns import Membership, SiteIdentity
    from cluster.settings import Site
    from storage_node.grid.sites import GridSite
    from storage_node.site.protocol import Objects


def open_site(site: Site, membership: Membership) -> GridSite:
    """Open both halves of a site. One that is not there is so only when it is asked something."""
    from storage_node.grid.sites import GridSite

    identity = membership.identity
    catalogue = catalogues.open_catalogue(site, identity)
    return GridSite(site.name, open_objects(site, identity), catalogue, membership)


def open_objects(site: Site, identity: SiteIdentity) -> Objects:
    """Open a site's objects."""
    if site.is_s3:
        from deploy import s3

        return s3.open_objects(site, identity)
    from storage_node.site.file_system import FileSystemObjects

    return FileSystemObjects(site.name, site.objects_folder, identity)


def held(site: Site) -> SiteIdentity | None:
    """Return whose objects are in a site's folder or bucket; None if there are none. Blocks.

    Raises
    ------
    UserError
        Its bucket cannot be asked, or holds something else.
    """
    if site.is_s3:
        from deploy import s3

        return s3.held(site)
    from storage_node.site.file_system import FileSystemObjects

    return FileSystemObjects.held(site.objects_folder)


def make(site: Site, identity: SiteIdentity) -> None:
    """Make both halves of a new site, durably. Harmless when they were made already.

    Raises
    ------
    UserError
        Its bucket or database cannot be made, or holds something else.
    OSError
        A folder or file cannot be made, or holds something else.
    """
    if not site.is_postgresql:  # one that cannot be written is found out before objects are made
        site.catalogue_file.parent.mkdir(parents=True, exist_ok=True)
    _make_objects(site, identity)
    catalogues.make(site, identity)


def may_renew(site: Site, identity: SiteIdentity) -> None:
    """Find out whether `renew` can do anything, as far as that can be told beforehand. Blocks.

    Raises
    ------
    UserError
        Its bucket or database cannot be asked, or holds something else.
    """
    catalogues.may_renew(site, identity)
    if site.is_s3:
        from deploy import s3

        s3.may_renew(site, identity)


def renew(site: Site, identity: SiteIdentity) -> str | None:
    """Make both halves of a site that lost its state, as the next generation.

    Objects of the same site that are still there stay; a catalogue that is still there is moved aside.

    Returns
    -------
    str or None
        Where the former catalogue is; None if there was none.

    Raises
    ------
    UserError
        Its bucket or database cannot be made, or what is there is another site's.
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
    return catalogues.renew(site, identity)


def _make_objects(site: Site, identity: SiteIdentity) -> None:
    if site.is_s3:
        from deploy import s3

        s3.make(site, identity)
        return
    from storage_node.site.file_system import FileSystemObjects

    FileSystemObjects.create(site.objects_folder, identity)
    sync_above(site.objects_folder)
