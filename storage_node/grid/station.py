"""One generation of a site: how it is asked, and what this process has learnt of it by that.

A site that hangs costs those who are asking it one short time limit, and nobody after them: the first that
finds it out, a call or a probe, ends all calls that are under way at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from prometheus_client import Counter, Histogram

from cluster.nouns import Membership, SiteIdentity
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.grid.bounds import Bounds
from storage_node.grid.health import Circuit, SiteHealth
from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteFull, SiteUnavailable

if TYPE_CHECKING:
    from cluster.settings import Writing
    from storage_node.catalogue.protocol import Catalogue
    from storage_node.site.protocol import Objects

T = TypeVar("T")

_STALL_S: Final = 0.25
"""A time limit that ends so much too late says that this process stood still, and nothing of the site."""
_NOWHERE: Final = Membership(SiteIdentity("", "", 1))

_FAILURES: Final = Counter(
    "atria_site_failures_total", "Calls and probes at a site that failed, or took too long", ["site"]
)
_PROBE_SECONDS: Final = Histogram(
    "atria_site_probe_seconds",
    "Time that a probe took that found the site well",
    ["site"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GridSite:
    """One failure unit: objects and a catalogue."""

    name: str
    objects: Objects
    catalogue: Catalogue
    membership: Membership = _NOWHERE
    """Its place in the cluster, by the record that it was opened by."""


class SiteFailed(Exception):
    """A site did not do what was asked, or not in time. What was asked may have happened all the same."""

    def __init__(self, site: str, reason: str) -> None:
        super().__init__(f"site {site}: {reason}")
        self.site = site
        self.reason = reason


class Station:
    """One generation of a site.

    Parameters
    ----------
    site : GridSite
    writing : Writing
        The time limits and bounds.
    now : callable
        Returns the time, aware.
    changed : callable
        Called when its health is another, with what it was before.
    """

    def __init__(
        self,
        site: GridSite,
        writing: Writing,
        now: Callable[[], datetime],
        changed: Callable[[Station, SiteHealth], None],
    ) -> None:
        self.site = site
        self.circuit = Circuit(room_low_bytes=writing.free_space_low_bytes, filling=site.membership.filling)
        self.bounds = Bounds(site.name, requests=writing.site_requests, held_bytes=writing.site_held_bytes)
        self.health = SiteHealth(self.circuit.state, self.circuit.why, now(), self.circuit.filling)
        self.wake = asyncio.Event()
        """Set when it is to be probed before it is its time."""
        self._writing = writing
        self._now = now
        self._changed = changed
        self._answers = 0

    def join(self, membership: Membership) -> None:
        """Take another place in the cluster, of the same identity."""
        assert membership.identity == self.site.membership.identity
        self.site = replace(self.site, membership=membership)
        self.circuit.filling = membership.filling
        self._note()

    async def retire(self) -> None:
        """Let go of the site: another has taken its place, and those who still ask this one fail."""
        self.circuit.failed("another has taken its place")
        self.bounds.cut()
        await self.bounds.ended()
        await self.close()

    async def close(self) -> None:
        """Let go of the site."""
        await self.site.objects.close()
        await self.site.catalogue.close()

    async def ask(
        self,
        call: Awaitable[T],
        *,
        timeout_s: float | None,
        size_bytes: int,
        writes: str | None,
        even_down: bool,
    ) -> T:
        """Await a call at the site (see `Sites.ask`)."""
        limit_s = self._writing.site_timeout_s if timeout_s is None else timeout_s
        was_up, began = self.circuit.is_up, False
        try:
            async with (
                asyncio.timeout(limit_s) as limit,
                self.bounds.call(limit, size_bytes, may_be_cut=was_up),
            ):
                if not self.circuit.is_up and not even_down:
                    raise SiteFailed(self.site.name, self.circuit.why)
                limit.reschedule(_time_s() + limit_s)
                began = True
                answer = await call
                self._answers += 1
        except TimeoutError as error:
            raise self._timed_out(limit, limit_s, began=began, was_up=was_up) from error
        except SiteFull as error:
            self.circuit.no_room(error.reason, _time_s())
            self._note()
            raise SiteFailed(self.site.name, error.reason) from error
        except (SiteUnavailable, CatalogueUnavailable) as error:
            self._failed(error.reason)
            self.wake.set()
            raise SiteFailed(self.site.name, error.reason) from error
        except ObjectMissing:
            self._answers += 1
            raise
        except ObjectFault as error:
            self._answers += 1
            if writes is not None:
                self.circuit.not_written(writes, str(error), _time_s())
                self._note()
                self.wake.set()
            raise
        finally:
            if not began:
                leave(call)
        if writes is not None:
            self.circuit.wrote()
            self._note()
        return answer

    def _timed_out(self, limit: asyncio.Timeout, limit_s: float, *, began: bool, was_up: bool) -> SiteFailed:
        """Find out whose fault it is that a call did not end in time."""
        reason = f"no answer within {limit_s:g} s"
        if was_up and not self.circuit.is_up:
            reason = self.circuit.why
        elif not began:
            reason = f"{self.bounds.requests} calls are under way at it, and none ended within {limit_s:g} s"
        elif _stood_still(limit):
            self.wake.set()
        else:
            self._hangs(reason)
        return SiteFailed(self.site.name, reason)

    async def probe(self) -> None:
        """Ask the site which one it is, and how much room it has, and note how it is."""
        began, began_s, answers = self.circuit.probe_began(), _time_s(), self._answers
        try:
            async with asyncio.timeout(self._writing.probe_timeout_s) as limit:
                identity = await self.site.objects.identity()
                other = await self.site.catalogue.identity()
        except TimeoutError:
            if _stood_still(limit) or self._answers != answers:
                self.circuit.was_slow()  # it is busy, or we are: to call it down would make that worse
                self.wake.set()
            else:
                self._hangs(f"no answer to a probe within {self._writing.probe_timeout_s:g} s")
        except (SiteUnavailable, CatalogueUnavailable) as error:
            self._hangs(error.reason)
        else:
            if identity != other:
                self._hangs("its objects and its catalogue are of different sites")
                return
            took_s = _time_s() - began_s
            _PROBE_SECONDS.labels(self.site.name).observe(took_s)
            await self._look_for_room()
            self.circuit.probed(began, quick=took_s < self._writing.hedge_after_s)
            self._note()

    async def _look_for_room(self) -> None:
        """Ask how much room there is. A site that does not say so now is no worse than it was."""
        try:
            async with asyncio.timeout(self._writing.probe_timeout_s):
                self.circuit.has_room(await self.site.objects.free_bytes())
        except TimeoutError:
            log.warning("site.room_unknown", site=self.site.name, reason="no answer in time")
        except SiteUnavailable as error:
            log.warning("site.room_unknown", site=self.site.name, reason=error.reason)

    def _failed(self, reason: str) -> None:
        _FAILURES.labels(self.site.name).inc()
        self.circuit.failed(reason)
        self._note()

    def _hangs(self, reason: str) -> None:
        """Note that the site is down, and that what is under way at it will not end by itself."""
        self._failed(reason)
        self.bounds.cut()

    def _note(self) -> None:
        """Note what is believed of the site, if that is news."""
        before, circuit = self.health, self.circuit
        state, why = circuit.state, circuit.why
        if (state, why, circuit.filling) == (before.state, before.why, before.filling):
            return
        since = before.since if state is before.state else self._now()
        self.health = SiteHealth(state, why, since, circuit.filling)
        self._changed(self, before)


def leave(call: Awaitable[object]) -> None:
    """Let go of a call that is not begun."""
    if asyncio.iscoroutine(call):
        call.close()


def _time_s() -> float:
    return asyncio.get_running_loop().time()


def _stood_still(limit: asyncio.Timeout) -> bool:
    """Return whether a time limit ended much later than it should have: the loop itself was held up."""
    ends_s = limit.when()
    return ends_s is not None and _time_s() - ends_s > _STALL_S
