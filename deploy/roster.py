"""The sites' places in the cluster, as the grid of a running process follows them: read from the record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from deploy import record, shared_record, sites
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cluster.nouns import Membership, SiteIdentity
    from cluster.settings import Settings
    from deploy.record import Records, SiteRecord
    from storage_node.grid.sites import GridSite

log = structlog.get_logger()


class RecordRoster:
    """A `storage_node.grid.sites.Roster` over `cluster.json`.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    UserError
        There is no cluster in the data folder.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sites = {site.name: site for site in settings.sites}
        self._stamp = self._read_stamp()
        self._memberships = _memberships(record.of_sites(settings))

    def memberships(self) -> Mapping[str, Membership]:
        """Return each site's place by its name, in the order of the settings.

        The record is read again only when it was replaced. One that cannot be read is logged, and what
        it said last holds: a running process does not depend on it.
        """
        stamp = self._read_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._memberships = _memberships(record.of_sites(self._settings))
            except UserError as error:
                log.warning("roster.kept", why=str(error))
        return self._memberships

    def open(self, membership: Membership) -> GridSite:
        """Open a site as it is now."""
        return sites.open_site(self._sites[membership.identity.name], membership)

    async def filled(self, identity: SiteIdentity) -> None:
        """Record that this generation of a site has all its state back. No error if it is another by now.

        Raises
        ------
        OSError, UserError
            The record cannot be changed: the site has no vote yet.
        """
        await self._note(identity, lambda one: replace(one, filling=False, rebuilding=False))

    async def rebuilt(self, identity: SiteIdentity) -> None:
        """Record that this generation of a site has in its catalogue what its objects are; as `filled`.

        Raises
        ------
        OSError, UserError
            The record cannot be changed.
        """
        await self._note(identity, lambda one: replace(one, rebuilding=False))

    async def _note(self, identity: SiteIdentity, how: Callable[[SiteRecord], SiteRecord]) -> None:
        def noted(records: Records | None) -> Records:
            if records is None:
                raise UserError(f"there is no cluster in {self._settings.data_folder} any more")
            one = records.get(identity.name)
            if one is None or one.identity != identity or not one.made:
                return records
            return {**records, identity.name: how(one)}

        if self._settings.etcd.endpoints:
            await shared_record.change(self._settings, noted)
        else:
            await asyncio.to_thread(record.change, self._settings, noted)

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            status = record.file_of(self._settings).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


def _memberships(records: Records) -> dict[str, Membership]:
    return {name: one.membership for name, one in records.items()}
