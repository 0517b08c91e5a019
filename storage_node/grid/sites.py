"""The sites as the grid sees them: which of them are worth asking, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog
from prometheus_client import Gauge

from storage_node.grid.health import SiteHealth, SiteState
from storage_node.grid.station import GridSite, SiteFailed, Station, leave
from storage_node.grid.tasks import Tasks

if TYPE_CHECKING:
    from cluster.nouns import Membership, SiteIdentity
    from cluster.settings import Writing

__all__ = ["GridSite", "Roster", "SiteFailed", "SiteHealth", "SiteState", "Sites"]

T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 10.0
"""How long closing waits for sites that were replaced and still have calls under way."""

_UP: Final = Gauge("atria_site_up", "Whether this process can reach the site", ["site"])
_STATE: Final = Gauge("atria_site_state", "1 for the state that the site is in", ["site", "state"])

log = structlog.get_logger()


class Roster(Protocol):
    """The cluster's record of its sites, which others may change at any time."""

    def memberships(self) -> Mapping[str, Membership]:
        """Return each site's place in the cluster, by name. Cheap: it is asked at each probe."""

    def open(self, membership: Membership) -> GridSite:
        """Return the site of that identity, opened anew."""

    async def filled(self, identity: SiteIdentity) -> None:
        """Record that this generation of a site has everything; no error if it is another by now."""


def _now() -> datetime:
    return datetime.now(UTC)


class Sites:
    """All sites.

    Parameters
    ----------
    sites : iterable of GridSite
        The nearest first.
    writing : Writing
        The time limits and bounds.
    roster : Roster, optional
        Where a site's place in the cluster is looked up at each probe; without it, it stays what it is.
    now : callable
        Returns the time, aware.
    """

    def __init__(
        self,
        sites: Iterable[GridSite],
        writing: Writing,
        *,
        roster: Roster | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._writing = writing
        self._roster = roster
        self._now = now
        self._changed = asyncio.Event()
        self._retired = Tasks()
        self._stations = {site.name: self._station(site) for site in sites}

    def _station(self, site: GridSite) -> Station:
        station = Station(site, self._writing, self._now, self._on_change)
        _show(site.name, station.health)
        return station

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all sites, the nearest first."""
        return tuple(self._stations)

    def __getitem__(self, name: str) -> GridSite:
        return self._stations[name].site

    def __contains__(self, name: str) -> bool:
        return name in self._stations

    def is_up(self, site: GridSite) -> bool:
        """Return whether a site can be reached."""
        return self._stations[site.name].health.up

    def up(self) -> tuple[GridSite, ...]:
        """Return the sites that can be reached, the nearest first."""
        return tuple(station.site for station in self._stations.values() if station.health.up)

    def voters(self) -> tuple[GridSite, ...]:
        """Return those of them whose word counts: not those that are being filled (design, rule 8)."""
        return tuple(station.site for station in self._stations.values() if station.health.votes)

    def writable(self, at_least: int = 0) -> tuple[GridSite, ...]:
        """Return the sites to write to: one whose writes fail, too, when it is time to try (`will_write`).

        Parameters
        ----------
        at_least : int
            Sites that do not keep up with what is written to them are passed over if so many are left.
        """
        at_s = asyncio.get_running_loop().time()
        takers = [station for station in self._stations.values() if station.circuit.may_write(at_s)]
        quick = [station for station in takers if station.bounds.keeps_up]
        return tuple(station.site for station in (quick if len(quick) >= at_least else takers))

    def will_write(self, sites: Iterable[GridSite]) -> None:
        """Tell that these sites are written to now: where writes fail, nobody else tries for a while.

        Who asked for the writable ones and does without some, or too few for his purpose, tried nothing:
        sites that are each tried alone, at different times, would never be found to be well together.
        """
        at_s = asyncio.get_running_loop().time()
        for site in sites:
            self._stations[site.name].circuit.will_write(at_s)

    def may_write(self, site: GridSite) -> bool:
        """Return whether to write to a site now; where its writes fail, the caller is now and then to try."""
        circuit, at_s = self._stations[site.name].circuit, asyncio.get_running_loop().time()
        if not circuit.may_write(at_s):
            return False
        circuit.will_write(at_s)
        return True

    def by_health(self) -> tuple[GridSite, ...]:
        """Return all sites in the order in which to read from them, those that are down at the end.

        Before them come those that are being filled, which may not have it yet, and before these the slow. A
        site that is down by its catalogue alone, or by the probes of a process out of breath, may yet do.
        """

        def reluctance(station: Station) -> tuple[bool, bool, bool]:
            return not station.health.up, station.health.filling, not station.circuit.is_quick

        return tuple(station.site for station in sorted(self._stations.values(), key=reluctance))

    def health(self) -> Mapping[str, SiteHealth]:
        """Return what is known of each site."""
        return {name: station.health for name, station in self._stations.items()}

    async def wait_until(self, holds: Callable[[Mapping[str, SiteHealth]], bool]) -> None:
        """Wait until something holds of the sites' health, or of their places in the cluster."""
        while not holds(self.health()):
            await self._changed.wait()

    def was_slow(self, site: GridSite) -> None:
        """Tell that another site had to be asked because this one took so long to be read from."""
        self._stations[site.name].circuit.was_slow()

    async def ask(
        self,
        site: GridSite,
        call: Awaitable[T],
        *,
        timeout_s: float | None = None,
        size_bytes: int = 0,
        writes: str | None = None,
        even_down: bool = False,
    ) -> T:
        """Await a call at a site, in its turn and within its time limit.

        Parameters
        ----------
        site : GridSite
        call : awaitable
            It is not begun if the site is down.
        timeout_s : float, optional
            How long it may take from when it begins; `site_timeout_s` if it is not given. It may wait for its
            turn as long again.
        size_bytes : int
            What it writes, and is held in memory until it has ended.
        writes : str, optional
            Key of the object that it writes. Several different ones in a row that cannot be written say that
            the site cannot be written to.
        even_down : bool
            Whether to try a site that is down, too.

        Raises
        ------
        SiteFailed
            If the fault is that of the site as a whole, it is down from now on. If it hangs, all other calls
            at it fail with this one.
        ObjectMissing, ObjectFault
            The site is well.
        """
        station = self._stations[site.name]
        if station.site.objects is not site.objects:
            leave(call)
            raise SiteFailed(site.name, "another has taken its place")
        return await station.ask(
            call, timeout_s=timeout_s, size_bytes=size_bytes, writes=writes, even_down=even_down
        )

    def _on_change(self, station: Station, before: SiteHealth) -> None:
        name, health = station.site.name, station.health
        if self._stations[name] is not station:
            return
        if health.state is not before.state:
            _show(name, health)
            level = log.info if health.state is SiteState.UP else log.warning
            level(f"site.{health.state.value}", site=name, reason=health.why)
        self._tell()

    def _tell(self) -> None:
        """Wake those that wait for something to change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self) -> None:
        """Probe all sites for ever: those that are up, too, so that writes need not find out.

        Each is probed by itself: one that hangs does not keep another from coming back.
        """
        async with asyncio.TaskGroup() as watches:
            for name in self._stations:
                watches.create_task(self._watch(name))

    async def _watch(self, name: str) -> None:
        while True:
            wake = self._stations[name].wake
            with suppress(TimeoutError):
                async with asyncio.timeout(self._writing.probe_interval_s):
                    await wake.wait()
            wake.clear()
            try:
                self._follow(name)
                await self._stations[name].probe()
            except Exception:  # without probes the site would never come back
                log.exception("site.probe_failed", site=name)

    def probe_soon(self, site: GridSite) -> None:
        """Have a site probed now rather than when it is its time."""
        self._stations[site.name].wake.set()

    async def probe(self) -> None:
        """Ask every site which one it is, and note what is up."""
        async with asyncio.TaskGroup() as probes:
            for station in self._stations.values():
                probes.create_task(station.probe())

    def _follow(self, name: str) -> None:
        """Go by what the record says of a site now: another generation of it is opened anew."""
        if self._roster is None:
            return
        station = self._stations[name]
        membership = self._roster.memberships().get(name, station.site.membership)
        if membership.identity == station.site.membership.identity:
            if membership != station.site.membership:
                station.join(membership)
                self._tell()
            return
        log.warning("site.replaced", site=name, generation=membership.identity.generation)
        self._stations[name] = self._station(self._roster.open(membership))
        self._retired.spawn(station.retire())

    async def close(self) -> None:
        """Let go of all sites; nobody asks them any more."""
        await self._retired.close(CLOSE_TIMEOUT_S)
        for station in self._stations.values():
            await station.close()


def _show(name: str, health: SiteHealth) -> None:
    _UP.labels(name).set(health.up)
    for state in SiteState:
        _STATE.labels(name, state.value).set(state is health.state)
