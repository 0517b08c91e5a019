"""One history: clients, upkeep and failures for some seconds; then peace, and a last look at everything."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from cluster import nouns
from cluster.settings import Writing
from tests.simulation.caretakers import GRACE_S, run_of
from tests.simulation.clients import Clients
from tests.simulation.judge import Judge, Violation
from tests.simulation.loop import Deadlock
from tests.simulation.model import BLOCK_BYTES, Kind, Model, content, instance
from tests.simulation.nemesis import Nemesis
from tests.simulation.process import Crashed, Process
from tests.simulation.quiet import quiet
from tests.simulation.site import State
from tests.simulation.temper import Ask, Chore, Strike, draw
from tests.simulation.world import NAMES, World

_WRITING: Final = Writing(
    copies_before_success=2,
    straggler_grace_s=0.3,
    site_timeout_s=2.0,
    probe_interval_s=5.0,
    probe_timeout_s=1.0,
    hedge_after_s=0.2,
)
_ROUNDS_LIMIT: Final = 8
"""Rounds of upkeep within which all must be well again, once nothing fails any more."""
_ROUND: Final = (Chore.FILL, Chore.LISTING, Chore.ANTI_ENTROPY, Chore.SCRUB, Chore.REPAIR)
_ASKED_BEFORE: Final = 2
"""So much is asked for before all sites are there."""
_ECHOES: Final = 3
"""So much is asked for at most when a failure is over."""
_SEEN_WITHIN_S: Final = 6.0
"""Within this time every process has seen that a site is well, by its probes."""
_LAST_STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a history ended."""

    seed: int
    trace_digest: str
    violation: str = ""
    """What did not hold; empty if all did."""
    last_steps: tuple[str, ...] = ()
    """The end of the trace, if something did not hold."""


def run(seed: int) -> Outcome:
    """Run the history that a seed stands for."""
    world = World(seed, _WRITING)
    violation = ""
    with quiet() as faults, _no_garbage(), _small_blocks():
        try:
            world.loop.run_until_complete(_History(world).run())
        except (Violation, Deadlock) as error:
            violation = f"{type(error).__name__}: {error}"
        except Exception:  # whatever it is, the seed has to be told
            violation = f"Fault: {traceback.format_exc()}"
        finally:
            world.loop.abandon()
            world.loop.close()
        faults += world.loop.faults
    if faults or world.violations:
        violation = "\n".join([*faults[:1], *world.violations[:1], violation])
    steps = tuple(f"{at:9.3f} {who:10} {what}" for at, who, what in world.trace[-_LAST_STEPS:])
    return Outcome(seed, world.trace_digest(), violation, steps if violation else ())


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Let nothing that happens depend on when the garbage is collected."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _small_blocks() -> Iterator[None]:
    """Let a version of a few bytes be one of several blocks."""
    modules = [
        module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("cluster", "storage_node") and hasattr(module, "BLOCK_BYTES")
    ]
    before = nouns.BLOCK_BYTES
    for module in modules:
        vars(module)["BLOCK_BYTES"] = BLOCK_BYTES
    try:
        yield
    finally:
        for module in modules:
            vars(module)["BLOCK_BYTES"] = before


class _History:
    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random_for("history")
        self._model = Model()
        self._judge = Judge(world, self._model)
        self._clients = Clients(world, self._model, self._judge)
        self._nemesis = Nemesis(world, self._model)
        self._processes: list[Process] = []
        self._temper = draw(world.random_for("temper"), NAMES)

    async def run(self) -> None:
        """Live through it."""
        self._leave_debris()
        names = ["worker-1", "worker-2", "upkeep"]
        self._processes = list(await asyncio.gather(*(self._world.begin(name) for name in names)))
        await self._owe()
        await self._trouble()
        await self._peace()
        await self._each_site_alone()

    def _leave_debris(self) -> None:
        """Have been what was before."""
        for site, number, version in self._temper.debris:
            left = content(number, version)
            if not left.is_streamed:
                self._world.site(site).leave(left)
        self._world.loop.advance(GRACE_S)

    async def _owe(self) -> None:
        """Have something be asked for while a site is away."""
        if self._temper.away is None:
            return
        site = self._world.site(self._temper.away)
        site.state = State.DOWN
        for _, ask in self._temper.asks[:_ASKED_BEFORE]:
            await self._ask(ask)
        site.state = State.WELL

    async def _trouble(self) -> None:
        temper = self._temper
        await asyncio.gather(
            *(_at(time_s, partial(self._ask, ask)) for time_s, ask in temper.asks),
            *(_at(time_s, partial(self._strike, strike)) for time_s, strike in temper.strikes),
            *(_at(time_s, partial(self._look_after, chore)) for time_s, chore in temper.chores),
        )

    async def _process(self, kind: str) -> Process:
        """Return a process of a kind; one that crashed is replaced."""
        number = self._random.choice([n for n, p in enumerate(self._processes) if p.name.startswith(kind)])
        process = self._processes[number]
        if not process.alive:
            process = self._processes[number] = await self._world.begin(process.name)
        return process

    async def _ask(self, ask: Ask) -> None:
        """Do what one client does."""
        random = self._random
        process = await self._process("worker")
        number = random.randint(1, self._temper.instances)
        if ask in (Ask.DELETE, Ask.REVIVE) and self._model.is_stored(instance(number)):
            kind = Kind.DELETE if ask is Ask.DELETE else Kind.REVIVE
            await self._clients.decide(process, kind, instance(number))
        elif ask is Ask.READ and self._model.versions:
            await self._clients.read(process, random.choice(list(self._model.versions.values())))
        elif ask is Ask.FIND:
            await self._clients.find(process)
        else:
            gives_up_after_s = random.choice([None, None, None, random.uniform(0, 1)])
            what = content(number, random.choice(self._temper.versions))
            await self._clients.store(process, what, gives_up_after_s=gives_up_after_s)

    async def _strike(self, strike: Strike) -> None:
        await self._nemesis.strike(strike, self._processes)
        await self._judge.known()
        for _ in range(self._random.randint(0, _ECHOES)):
            await asyncio.sleep(self._random.choice((0, self._random.uniform(0, _SEEN_WITHIN_S))))
            await self._ask(self._random.choice((*self._temper.asks, (0, Ask.FIND)))[1])
        if strike is Strike.LOSE_DISK:
            for _ in range(2):
                await asyncio.sleep(self._random.uniform(0, 3))
                await self._look_after(Chore.FILL)

    async def _look_after(self, chore: Chore) -> None:
        """Run one daemon of the upkeep once, perhaps not to its end."""
        process = await self._process(self._random.choice(("upkeep", "upkeep", "worker")))
        limit_s = self._random.choice([None, None, self._random.uniform(0, 3)])
        self._world.note(process.name, f"begins {chore.value}")
        try:
            async with asyncio.timeout(limit_s):
                await process.run(run_of(chore, process))
        except (TimeoutError, Crashed) as error:
            self._world.note(process.name, f"{chore.value} ended: {error!r}")
        await self._judge.known()

    async def _peace(self) -> None:
        """Let everything that can heal by itself heal, and see that upkeep does the rest."""
        self._nemesis.heal()
        self._world.note("history", "peace")
        await self._world.end()
        self._world.loop.advance(GRACE_S)
        caretaker = await self._world.begin("caretaker")
        for _ in range(_ROUNDS_LIMIT):
            for chore in _ROUND:
                await caretaker.run(run_of(chore, caretaker))
            if await self._is_well():
                break
        await self._judge.at_rest()
        await self._judge.counts(caretaker)
        await caretaker.run(run_of(Chore.COLLECTION, caretaker))
        await self._judge.at_rest()
        await self._world.end()

    async def _is_well(self) -> bool:
        filling = any(membership.filling for membership in self._world.memberships.values())
        return not filling and not any([await site.debts() for site in self._world.sites])

    async def _each_site_alone(self) -> None:
        """Read all that was acknowledged from each site alone, by a process that has seen nothing before."""
        for site in self._world.sites:
            for other in self._world.sites:
                other.state = State.WELL if other is site else State.DOWN
            reader = await self._world.begin(f"reader-{site.name}")
            for version in self._model.versions.values():
                await self._clients.read(reader, version)
            await self._world.end()


async def _at(time_s: float, something: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(time_s)
    await something()
