"""A site as the grid sees it, and what is known of its health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.site.protocol import SiteUnavailable

if TYPE_CHECKING:
    from storage_node.catalogue.protocol import Catalogue
    from storage_node.site.protocol import Objects

T = TypeVar("T")

_UP = Gauge("atria_site_up", "Whether this process can use the site", ["site"])
_FAILURES = Counter("atria_site_failures_total", "Calls at a site that failed, or took too long", ["site"])

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GridSite:
    """One failure unit: objects and a catalogue."""

    name: str
    objects: Objects
    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """What is known of one site."""

    up: bool
    why: str
    """Why it is down; empty when it is up."""
    since: datetime

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"up": self.up, "why": self.why, "since": self.since.isoformat()}


class SiteFailed(Exception):
    """A site did not do what was asked, or not in time. What was asked may have happened all the same."""

    def __init__(self, site: str, reason: str) -> None:
        super().__init__(f"site {site}: {reason}")
        self.site = site
        self.reason = reason


def _now() -> datetime:
    return datetime.now(UTC)


class Sites:
    """All sites, and which of them are worth asking.

    A site that fails a call is down until a probe finds both its halves well and of the same identity; a site
    that hangs costs those who are asking it one time limit, and nobody after them.

    Parameters
    ----------
    sites : iterable of GridSite
        The nearest first.
    site_timeout_s : float
        How long one call at one site may take.
    probe_interval_s : float
        How often every site is probed.
    now : callable
        Returns the time, aware.
    """

    def __init__(
        self,
        sites: Iterable[GridSite],
        *,
        site_timeout_s: float,
        probe_interval_s: float,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._sites = {site.name: site for site in sites}
        self._timeout_s = site_timeout_s
        self._interval_s = probe_interval_s
        self._now = now
        self._health = {name: SiteHealth(False, "not probed yet", now()) for name in self._sites}
        self._failures = dict.fromkeys(self._sites, 0)
        for name in self._sites:
            _UP.labels(site=name).set(False)
        self._changed = asyncio.Event()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all sites, the nearest first."""
        return tuple(self._sites)

    def __getitem__(self, name: str) -> GridSite:
        return self._sites[name]

    def __contains__(self, name: str) -> bool:
        return name in self._sites

    def up(self) -> tuple[GridSite, ...]:
        """Return the sites that are not known to be down, the nearest first."""
        return tuple(site for site in self._sites.values() if self._health[site.name].up)

    def by_health(self) -> tuple[GridSite, ...]:
        """Return all sites, those that are up first: for reading, a site that cannot be written to may do."""
        return tuple(sorted(self._sites.values(), key=lambda site: not self._health[site.name].up))

    def health(self) -> Mapping[str, SiteHealth]:
        """Return what is known of each site."""
        return dict(self._health)

    async def ask(self, site: GridSite, call: Awaitable[T]) -> T:
        """Await a call at a site, within the time limit.

        Raises
        ------
        SiteFailed
            The site is down from now on.
        ObjectMissing, ObjectFault
            The site is well.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError:
            reason = f"no answer within {self._timeout_s:g} s"
        except (SiteUnavailable, CatalogueUnavailable) as error:
            reason = error.reason
        self._failed(site.name, reason)
        raise SiteFailed(site.name, reason)

    def _failed(self, name: str, reason: str) -> None:
        self._failures[name] += 1
        _FAILURES.labels(site=name).inc()
        if self._health[name].up:
            log.warning("site.down", site=name, reason=reason)
            self._set(name, up=False, why=reason)
        elif self._health[name].why != reason:
            self._health[name] = SiteHealth(False, reason, self._health[name].since)

    def _set(self, name: str, *, up: bool, why: str) -> None:
        self._health[name] = SiteHealth(up, why, self._now())
        _UP.labels(site=name).set(up)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(self, holds: Callable[[Mapping[str, SiteHealth]], bool]) -> None:
        """Wait until something holds of the sites' health."""
        while not holds(self._health):
            await self._changed.wait()

    async def watch(self) -> None:
        """Probe all sites for ever: those that are up, too, so that writes need not find out.

        Each is probed by itself: one that hangs does not keep another from coming back.
        """
        async with asyncio.TaskGroup() as watches:
            for site in self._sites.values():
                watches.create_task(self._watch(site))

    async def _watch(self, site: GridSite) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._probe(site)
            except Exception:  # without probes the site would never come back
                log.exception("site.probe_failed", site=site.name)

    async def probe(self) -> None:
        """Ask every site which one it is, and note what is up."""
        async with asyncio.TaskGroup() as probes:
            for site in self._sites.values():
                probes.create_task(self._probe(site))

    async def _probe(self, site: GridSite) -> None:
        failures = self._failures[site.name]
        try:
            identity = await self.ask(site, site.objects.identity())
            other = await self.ask(site, site.catalogue.identity())
        except SiteFailed:
            return
        if identity != other:
            self._failed(site.name, "its objects and its catalogue are of different sites")
        elif failures == self._failures[site.name] and not self._health[site.name].up:
            log.info("site.up", site=site.name)
            self._set(site.name, up=True, why="")
