"""What goes wrong: at any moment, at any place, as long as no more does than the cluster promises to bear.

Sites, links and processes may fail in any number, and come back: that must never cost anything but time. What
takes away stored bytes may strike one site at any moment, as long as another holds whatever was acknowledged,
and a second one only when each site that is left holds all of it (design: any two after the third copy). So
may a backup that is older than what it replaces, of which nothing tells the cluster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.simulation.link import FAIR, Weather
from tests.simulation.site import State
from tests.simulation.temper import Strike

if TYPE_CHECKING:
    from cluster.nouns import Fact, Version
    from tests.simulation.model import Model
    from tests.simulation.process import Process
    from tests.simulation.site import Backup, Site
    from tests.simulation.world import World

_UNNOTICED_S: Final = 7.0
"""Within this time every process has seen that a site is down, by its probes."""
_DOWN: Final = (State.DOWN, State.NO_OBJECTS, State.NO_CATALOGUE)
_WEATHERS: Final = (
    Weather(slow=0.3, slow_s=4.0, request_lost=0.1, answer_lost=0.15),
    Weather(slow=1.0, slow_s=0.3),
    Weather(slow=0.5, slow_s=2.0),
    Weather(answer_lost=0.4, silent=0.2),
)


class Nemesis:
    """Makes things fail.

    Parameters
    ----------
    world : World
    model : Model
    """

    def __init__(self, world: World, model: Model) -> None:
        self._world = world
        self._model = model
        self._random = world.random_for("nemesis")
        self._backups: dict[str, Backup] = {}
        self._lost_at: tuple[float, str] = (-1.0, "")

    async def strike(self, strike: Strike, processes: list[Process]) -> None:
        """Have one thing go wrong, for a while or for ever."""
        site = self._random.choice(self._world.sites)
        process = self._random.choice(processes)
        match strike:
            case Strike.CRASH:
                process.steps_left = self._random.randrange(60)
            case Strike.STORM:
                await self._storm(process, site)
            case Strike.DOWN:
                await self._keep(site, self._random.choice(_DOWN))
            case Strike.HUNG:
                await self._keep(site, State.HUNG)
            case Strike.FULL:
                await self._keep(site, State.FULL)
            case Strike.DAMAGE:
                await self._damage(site)
            case Strike.LOSE_DISK:
                await self._lose_disk(site)
            case Strike.RESTORE:
                await self._restore(site)

    def heal(self) -> None:
        """End all that can end by itself."""
        for site in self._world.sites:
            site.state = State.WELL

    async def _storm(self, process: Process, site: Site) -> None:
        self._note(f"bad weather between {process.name} and {site.name}")
        process.links[site.name].turn(self._random.choice(_WEATHERS))
        await asyncio.sleep(self._random.uniform(0.5, 8))
        process.links[site.name].turn(FAIR)

    async def _keep(self, site: Site, state: State) -> None:
        if site.state is not State.WELL:
            return
        self._note(f"{site.name} {state.value}")
        site.state = state
        await asyncio.sleep(self._random.uniform(0.1, 12))
        site.state = State.WELL
        self._note(f"{site.name} is well again")

    async def _damage(self, site: Site) -> None:
        """Flip, remove or wedge an object."""
        keys = site.object_keys()
        if not keys or not await self._may_lose(site):
            return
        key = self._random.choice(keys)
        match self._random.randrange(3):
            case 0:
                self._note(f"{site.name}: {key} rots")
                site.corrupt(key)
            case 1:
                self._note(f"{site.name}: {key} disappears")
                site.remove(key)
            case _:
                self._note(f"{site.name}: {key} is wedged")
                site.wedged.add(key)
        self._lost_at = (self._world.loop.time(), site.name)
        self._world.damage(site, key)

    async def _lose_disk(self, site: Site) -> None:
        """Take everything from a site; somebody replaces the disk after a while."""
        if site.state is not State.WELL or not await self._may_lose(site):
            return
        self._note(f"{site.name} loses its disk")
        self._backups.pop(site.name, None)
        self._lost_at = (self._world.loop.time(), site.name)
        self._world.replace(site)
        site.state = State.DOWN
        await asyncio.sleep(self._random.uniform(_UNNOTICED_S, 1.5 * _UNNOTICED_S))
        site.state = State.WELL
        self._note(f"{site.name} is back with an empty disk")

    async def _restore(self, site: Site) -> None:
        """Bring a site back from a backup, or make one if there is none."""
        backup = self._backups.get(site.name)
        if backup is None:
            self._backups[site.name] = site.back_up()
            return
        if len(self._voters_but(site)) < len(self._world.sites) - 1 or not await self._is_everywhere_but(
            site
        ):
            return
        self._note(f"{site.name} is restored from an old backup")
        self._lost_at = (self._world.loop.time(), site.name)
        self._world.lose(site)
        site.restore(self._backups.pop(site.name))

    async def _may_lose(self, site: Site) -> bool:
        """Whether all that was acknowledged is elsewhere, and what is being stored has lost nothing yet."""
        others = self._voters_but(site)
        if len(others) < len(self._world.sites) - 1:
            return await self._is_everywhere_but(site)
        now = self._world.loop.time()
        began = min((operation.began for operation in self._model.under_way(now)), default=now)
        lost_at, lost_by = self._lost_at
        if lost_at >= began and lost_by != site.name:
            return False
        return all(
            [any([await other.holds(version) for other in others]) for version in self._versions()]
            + [any([await other.holds_fact(fact) for other in others]) for fact in self._facts()]
        )

    async def _is_everywhere_but(self, site: Site) -> bool:
        """Whether nothing is asked for now, and each other site that votes has all that was acknowledged."""
        others = self._voters_but(site)
        if not others or self._model.under_way(self._world.loop.time()):
            return False
        return all(
            [await other.holds(version) for version in self._versions() for other in others]
            + [await other.holds_fact(fact) for fact in self._facts() for other in others]
        )

    def _voters_but(self, site: Site) -> list[Site]:
        return [
            other
            for other in self._world.sites
            if other is not site and not self._world.memberships[other.name].filling
        ]

    def _facts(self) -> list[Fact]:
        return list(self._model.facts.values())

    def _versions(self) -> list[Version]:
        return list(self._model.versions.values())

    def _note(self, what: str) -> None:
        self._world.note("nemesis", what)
