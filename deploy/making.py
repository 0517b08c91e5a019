"""How a cluster's sites are made, and made anew.

The record goes first: an identity is written down before anything bears it, so that whatever dies half-way
is taken up where it was.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.nouns import SiteIdentity
from deploy import record, sites
from deploy.durable import sync_above
from deploy.errors import UserError
from deploy.record import SiteRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cluster.settings import Settings, Site
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


def prepare(settings: Settings) -> None:
    """Make the cluster in the data folder, as far as its sites are folders, unless it is there.

    Raises
    ------
    UserError
        The data folder cannot be written, a new site's place is taken, the settings name other sites
        than the cluster has, or a site that is a bucket was not made by `atria site init`.
    """
    make_folders(settings)
    init(settings, {site.name for site in settings.sites if not site.is_s3})
    record.of_sites(settings)


def init(settings: Settings, names: Collection[str]) -> None:
    """Record the cluster, and make those of the sites that were never made. Blocks: buckets are far away.

    Raises
    ------
    UserError
        A new site's place is taken or cannot be written, or its bucket cannot be made.
    """
    make_folders(settings)
    with _told(settings):
        records = record.change(settings, lambda before: before or _new(settings))
        for site in settings.sites:
            one = records[site.name]
            if site.name in names and not one.made and not one.filling:
                sites.make(site, one.identity)
                _made(settings, one.identity)
        sync_above(settings.data_folder)


def replace_site(settings: Settings, site: Site) -> SiteIdentity:
    """Make a site that lost its state anew, as the next generation, which is filling: it has no vote.

    One that was begun and not finished is finished, and no further generation is begun. A bucket is looked at
    first: a wrong setting must not cost a sound site its place.

    Raises
    ------
    UserError
        Its place cannot be written, or holds another site's objects. Doing it again goes on.
    """
    with _told(settings):
        sites.may_renew(site, _with_next_generation(record.of_sites(settings), site.name)[site.name].identity)
        records = record.change(settings, lambda before: _with_next_generation(before, site.name))
        identity = records[site.name].identity
        sites.renew(site, identity)
        _made(settings, identity)
    return identity


def _new(settings: Settings) -> Records:
    for site in settings.sites:
        _refuse_foreign(site)
    return {
        site.name: SiteRecord(SiteIdentity(site.name, str(uuid.uuid4()), generation=1), made=False)
        for site in settings.sites
    }


def _with_next_generation(records: Records | None, name: str) -> Records:
    assert records is not None
    one = records[name]
    if not one.made:
        return records
    identity = replace(one.identity, generation=one.identity.generation + 1)
    return {**records, name: SiteRecord(identity, made=False, filling=True)}


def _made(settings: Settings, identity: SiteIdentity) -> None:
    def noted(records: Records | None) -> Records:
        assert records is not None
        one = records[identity.name]
        return {**records, identity.name: replace(one, made=one.made or one.identity == identity)}

    record.change(settings, noted)


def _refuse_foreign(site: Site) -> None:
    """Refuse a folder or file that is taken; of buckets and databases it is found out when they are made."""
    taken = None
    if not site.is_postgresql and site.catalogue_file.exists():
        taken = site.catalogue_file
    if not site.is_s3 and site.objects_folder.exists() and any(site.objects_folder.iterdir()):
        taken = site.objects_folder
    if taken is not None:
        raise UserError(
            f"site {site.name}: {taken} is there already, and no {record.RECORD} says whose it is:"
            " choose another folder, or put the record back"
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
