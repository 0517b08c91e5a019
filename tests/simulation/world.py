"""A simulated cluster: three sites, the record of them, and a clock; all that happens follows from a seed."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, Final

from cluster.nouns import Membership, SiteIdentity
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.grid import keys
from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteUnavailable
from tests.simulation.loop import SimulatedLoop
from tests.simulation.model import LONGEST_WRITE_S
from tests.simulation.process import OWNER, Process
from tests.simulation.site import Site

if TYPE_CHECKING:
    from cluster.nouns import Debt, Version
    from cluster.settings import Writing
    from storage_node.catalogue.protocol import Row

NAMES: Final = ("a", "b", "c")


class World:
    """Everything there is in one history.

    Attributes
    ----------
    memberships : dict of str to Membership
        The cluster's record, which all processes read.
    trace : list of tuple
        (seconds, who, what) of each step that was taken.
    ordered_at : dict of str to float
        When a site decided last of what order a version is, by its digest.
    violations : list of str
        What a site saw that must not be.
    """

    def __init__(self, seed: int, writing: Writing) -> None:
        self.seed = seed
        self.loop = SimulatedLoop(self._began)
        self.random = self.random_for("history")
        self.sites = tuple(Site(name, self.loop.now) for name in NAMES)
        self.memberships = {site.name: Membership(site.identity) for site in self.sites}
        self.trace: list[tuple[float, str, str]] = []
        self._writing = writing
        self.ordered_at: dict[str, float] = {}
        self.violations: list[str] = []
        self._names = 0
        self._processes: list[Process] = []
        self._damaged: dict[tuple[str, str], float] = {}
        self._losses: dict[str, float] = {}
        self._late: set[asyncio.Task[None]] = set()

    def random_for(self, whom: str) -> Random:
        """Return a source of randomness of its own for each: what one draws changes nothing for another."""
        return Random(f"{self.seed} {whom}")

    def new_name(self) -> str:
        """Return a name that was never used before."""
        self._names += 1
        return f"{self._names:032x}"

    def site(self, name: str) -> Site:
        """Return a site by name."""
        return self.sites[NAMES.index(name)]

    def note(self, who: str, what: str) -> None:
        """Add a step to the trace."""
        self.trace.append((self.loop.time(), who, what))

    def trace_digest(self) -> str:
        """Return what tells two histories apart."""
        return blake2b(repr(self.trace).encode(), digest_size=16).hexdigest()

    async def begin(self, name: str) -> Process:
        """Start a process."""
        process = Process(self, name, len(self._processes), self._writing)
        self._processes.append(process)
        await process.start()
        return process

    async def end(self) -> None:
        """End all processes, and let what is still on its way arrive."""
        for process in self._processes:
            await process.close()
        while self._late:
            await asyncio.wait(self._late)

    def later(self, site: Site, delay_s: float, work: Callable[[], Awaitable[object]]) -> None:
        """Have something arrive at a site after nobody waits for it any more."""
        task = self.loop.create_task(self._arrive(site, delay_s, work), context=contextvars.Context())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _arrive(self, site: Site, delay_s: float, work: Callable[[], Awaitable[object]]) -> None:
        incarnation = site.incarnation
        await asyncio.sleep(delay_s)
        if site.incarnation == incarnation:
            self.note("network", f"delivers late to {site.name}")
            with suppress(SiteUnavailable, CatalogueUnavailable, ObjectFault, ObjectMissing):
                await work()

    def damage(self, site: Site, key: str) -> None:
        """Take note that an object was damaged, where it lies."""
        self._damaged[site.name, key] = self.loop.time()

    def is_damaged(self, site: Site, version: Version, since: float) -> bool:
        """Whether the copy of a version was damaged at a site since then, whatever it is now."""
        made = keys.manifest_key(version.instance, version.digest)
        return any(self._damaged.get((site.name, key), -1) >= since for key in (version.key, made))

    def row_comes(self, site: Site, row: Row) -> None:
        """Check that a row does not come before its object, and note when its order is decided."""
        version = row.version
        if not row.order:
            self.ordered_at[version.digest] = self.loop.time()
        if not (site.holds_bytes(version) or self._is_spoilt(site, version)):
            self.violations.append(f"{site.name} is given a row of {version.digest[:8]} before its object")

    async def debt_ends(self, name: str, version: Version) -> None:
        """Check that a site which is said to be owed a version no more holds it."""
        site = self.site(name)
        row = await site.row(version)
        held = row is not None and site.holds_bytes(row.version)
        if not (held or self._is_spoilt(site, version if row is None else row.version)):
            self.violations.append(f"{name} is owed {version.digest[:8]} no more, and does not hold it")

    async def debt_of_fact_ends(self, debt: Debt) -> None:
        """Check that a site which is said to be owed a fact no more holds it, if any site still does."""
        holders = {
            site.name
            for site in self.sites
            for fact in await site.facts(debt.instance)
            if fact.digest == debt.digest and await site.holds_fact(fact)
        }
        lost = self.lost_since(self.loop.time() - LONGEST_WRITE_S)
        if holders and debt.site not in holders | lost:
            self.violations.append(f"{debt.site} is owed a fact no more, and does not hold it")

    def _is_spoilt(self, site: Site, version: Version) -> bool:
        """Whether a copy was there a moment ago, and was damaged or lost meanwhile."""
        since = self.loop.time() - LONGEST_WRITE_S
        return self.is_damaged(site, version, since) or site.name in self.lost_since(since)

    def lost_since(self, began: float) -> set[str]:
        """Return the sites that lost their state since then."""
        return {name for name, at in self._losses.items() if at >= began}

    def lose(self, site: Site) -> None:
        """Take note that a site lost its state, or some of it."""
        self._losses[site.name] = self.loop.time()

    def replace(self, site: Site) -> None:
        """Record that a site is back without its state, and is to be filled."""
        self.lose(site)
        self.memberships[site.name] = Membership(site.lose_everything(), filling=True)

    def filled(self, identity: SiteIdentity) -> None:
        """Record that a site is filled, if it is still the one that was."""
        membership = self.memberships[identity.name]
        if membership.identity == identity:
            self.memberships[identity.name] = replace(membership, filling=False)

    def _began(self, task: asyncio.Task[Any], context: contextvars.Context) -> None:
        owner = context.get(OWNER)
        if owner is not None:
            owner.adopt(task)
