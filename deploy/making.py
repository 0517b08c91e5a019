"""How a cluster's sites are made, and made anew.

The record goes first: an identity is written down before anything bears it, so that whatever dies half-way
is taken up where it was.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cluster.durable import sync_above
from cluster.nouns import SiteIdentity
from deploy import adoption, catalogues, record, sites
from deploy.errors import UserError
from deploy.record import SiteRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cluster.settings import Settings, Site
    from deploy.adoption import Adopted
    from deploy.record import Records


def make_folders(settings: Settings) -> None:
    """Make the folders of the processes' run-time state, unless they are there.

    Raises
    ------
    UserError
        The data folder cannot be written.
    """
    with _told(settings):
        for folder in (settings.data_folder, settings.logs_folder, settings.members_folder):
            folder.mkdir(parents=True, exist_ok=True)


def prepare(settings: Settings) -> list[str]:
    """Make the cluster in the data folder, as far as its sites are folders, unless it is there.

    Returns
    -------
    list of str
        What is told of sites that were there already: a line each.

    Raises
    ------
    UserError
        The data folder cannot be written, a new site's place is taken, the settings name other sites
        than the cluster has, or a site that is a bucket was not made by `atria site init`.
    """
    make_folders(settings)
    said = init(settings, {site.name for site in settings.sites if not site.is_s3})
    record.of_sites(settings)
    return said


def init(settings: Settings, names: Collection[str]) -> list[str]:
    """Record the cluster, and make those of the sites that were never made. Blocks: buckets are far away.

    A site that is in its places already is used as it is (`deploy.adoption`).

    Returns
    -------
    list of str
        What is told of those: a line each.

    Raises
    ------
    UserError
        A new site's place is taken or cannot be written, or its bucket cannot be made.
    """
    make_folders(settings)
    with _told(settings):
        records = record.change(settings, lambda before: before or _new(settings))
        missing = [
            site
            for site in settings.sites
            if site.name in names and not records[site.name].made and not records[site.name].filling
        ]
        found = {site.name: adoption.look(site, records[site.name].identity) for site in missing}
        for name, adopted in found.items():
            if adopted is not None:
                _adopt(settings, name, adopted)
        for site in missing:
            if (adopted := found[site.name]) is None:
                sites.make(site, records[site.name].identity)
                _made(settings, records[site.name].identity, as_new=True)
            elif not adopted.has_catalogue:
                catalogues.make(site, adopted.identity)
                _made(settings, adopted.identity)
        sync_above(settings.data_folder)
    return [adopted.said for adopted in found.values() if adopted is not None]


def _adopt(settings: Settings, name: str, adopted: Adopted) -> None:
    """Record a site that is there: it has no vote before it was compared with the others."""
    rebuilding = not adopted.has_catalogue
    one = SiteRecord(adopted.identity, made=adopted.has_catalogue, filling=True, rebuilding=rebuilding)

    def noted(records: Records | None) -> Records:
        assert records is not None
        return {**records, name: one}

    record.change(settings, noted)


@dataclass(frozen=True, slots=True)
class Renewed:
    """A site that was made anew."""

    identity: SiteIdentity
    former_catalogue: str | None
    """Where the catalogue of before is; None if there was none."""


def replace_site(settings: Settings, site: Site) -> SiteIdentity:
    """Make a site that lost its state anew, as the next generation, which is filling: it has no vote.

    One that was begun and not finished is finished, and no further generation is begun. A bucket is looked at
    first: a wrong setting must not cost a sound site its place.

    Raises
    ------
    UserError
        Its place cannot be written, or holds another site's objects. Doing it again goes on.
    """
    return _renew(settings, site, rebuilding=False).identity


def begin_rebuild(settings: Settings, site: Site) -> Renewed:
    """Make the catalogue of a site anew whose objects are sound: from these, before the site is filled.

    The site is the next generation of itself, so that nobody who has the former catalogue before him takes
    the new one for it, and has no vote. For the rest it is as with `replace_site`.

    Raises
    ------
    UserError
        As `replace_site` does.
    """
    return _renew(settings, site, rebuilding=True)


def go_on_filling(settings: Settings, site: Site, *, rebuilding: bool) -> None:
    """Have a site that is filling, both halves of which are there, filled in one way or the other.

    Parameters
    ----------
    settings : Settings
    site : Site
    rebuilding : bool
        Whether its catalogue is first made from its objects, or all is copied from the others.

    Raises
    ------
    UserError
        The record cannot be written.
    """

    def noted(records: Records | None) -> Records:
        assert records is not None
        one = records[site.name]
        return {**records, site.name: replace(one, rebuilding=rebuilding and one.filling)}

    with _told(settings):
        record.change(settings, noted)


def _renew(settings: Settings, site: Site, *, rebuilding: bool) -> Renewed:
    def next_one(records: Records | None) -> Records:
        return _with_next_generation(records, site.name, rebuilding=rebuilding)

    with _told(settings):
        sites.may_renew(site, next_one(record.of_sites(settings))[site.name].identity)
        identity = record.change(settings, next_one)[site.name].identity
        former = sites.renew(site, identity)
        _made(settings, identity)
    return Renewed(identity, former)


def _new(settings: Settings) -> Records:
    for site in settings.sites:
        _refuse_foreign(site)
    return {
        site.name: SiteRecord(SiteIdentity(site.name, str(uuid.uuid4()), generation=1), made=False)
        for site in settings.sites
    }


def _with_next_generation(records: Records | None, name: str, *, rebuilding: bool) -> Records:
    assert records is not None
    one = records[name]
    if not one.made:
        return {**records, name: replace(one, rebuilding=rebuilding)}
    identity = replace(one.identity, generation=one.identity.generation + 1)
    return {**records, name: SiteRecord(identity, made=False, filling=True, rebuilding=rebuilding)}


def _made(settings: Settings, identity: SiteIdentity, *, as_new: bool = False) -> None:
    """Record that a site was made; a new one beside others that were not lacks what these have."""

    def noted(records: Records | None) -> Records:
        assert records is not None
        one = records[identity.name]
        if one.identity != identity:
            return records
        filling = one.filling or (as_new and any(other.filling for other in records.values()))
        return {**records, identity.name: replace(one, made=True, filling=filling)}

    record.change(settings, noted)


def _refuse_foreign(site: Site) -> None:
    """Refuse a folder or file that is taken; of buckets and databases it is found out when they are made."""
    taken = None
    if not site.is_postgresql and site.catalogue_file.exists() and catalogues.held(site) is None:
        taken = site.catalogue_file
    folder = None if site.is_s3 else site.objects_folder
    if folder is not None and folder.exists() and any(folder.iterdir()) and sites.held(site) is None:
        taken = folder
    if taken is not None:
        raise UserError(
            f"site {site.name}: {taken} is there already, and is no site's: choose another folder, or file"
        )


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or settings.data_folder}: {error.strerror or error}:"
            " choose another folder (--data), or make it writable"
        ) from error
