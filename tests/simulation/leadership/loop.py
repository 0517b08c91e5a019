"""A simulated loop of processes that have a clock each, and stop in the middle of anything, or for ever."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.simulation.loop import SimulatedLoop

T = TypeVar("T")

LIFE: Final[contextvars.ContextVar[Life | None]] = contextvars.ContextVar("life", default=None)
"""The process that the running code belongs to."""


_NEVER_EARLY_S: Final = 1e-9
"""More than what is rounded away: a timer that fires is due by the clock of its host, too."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A host's monotonic clock."""

    offset_s: float = 0.0
    """What it says when the world begins."""
    rate: float = 1.0
    """Its seconds in one of the world."""

    def at(self, world_s: float) -> float:
        """Return what it says at a time of the world."""
        return self.offset_s + self.rate * world_s

    def world_s(self, says: float) -> float:
        """Return the time of the world when it says something."""
        return (says - self.offset_s) / self.rate


class Life:
    """One process, from its start to its end.

    Attributes
    ----------
    clock : Clock
        By which it goes.
    runs : bool
        Whether it gets time on a processor; what happens meanwhile waits.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.runs = True
        self.waiting: list[tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]] = []
        self.context = contextvars.copy_context()
        self.context.run(LIFE.set, self)

    def go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let it run again: first what waited."""
        self.runs = True
        waiting, self.waiting = self.waiting, []
        for callback, arguments, context in waiting:
            loop.call_soon(callback, *arguments, context=context)


class StoppableLoop(SimulatedLoop):
    """The loop.

    Attributes
    ----------
    thread_s : callable
        How long what is done in a thread takes.
    """

    def __init__(self) -> None:
        super().__init__(lambda task, context: None)
        self.thread_s: Callable[[], float] = float
        self._lives: list[Life] = []
        self._over = False

    @property
    def world_s(self) -> float:
        """The world's own time, whoever asks."""
        return super().time()

    def time(self) -> float:
        """Return what the clock of the process says that asks; the world's time, where none does."""
        life = LIFE.get()
        return self.world_s if life is None else life.clock.at(self.world_s)

    def begin(self, clock: Clock) -> Life:
        """Return a new process."""
        life = Life(clock)
        self._lives.append(life)
        return life

    def abandon(self) -> None:
        """End all tasks, also those of processes that do not run."""
        self._over = True
        for life in self._lives:
            life.go_on(self)
        super().abandon()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        gated = _Gated(self, callback, context)
        gated.handle = super().call_soon(gated, *args, context=context)
        return gated.handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        if (life := LIFE.get()) is not None:
            when = life.clock.world_s(when) + _NEVER_EARLY_S
        gated = _Gated(self, callback, context)
        gated.handle = handle = super().call_at(when, gated, *args, context=context)
        return handle

    def run_in_executor(  # type: ignore[override]  # as in the base class
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do it late, or never, as a thread of a process that is stopped or killed does."""
        late: asyncio.Future[T] = self.create_future()

        def work() -> None:
            done = super(StoppableLoop, self).run_in_executor(executor, func, *args)
            if late.done():
                done.exception()
            elif (error := done.exception()) is not None:
                late.set_exception(error)
            else:
                late.set_result(done.result())

        self.call_later(self.thread_s(), work)
        return late

    def lets_run(self, life: Life | None) -> bool:
        """Whether a process gets time."""
        return life is None or life.runs or self._over


class _Gated:
    """A callback that waits for its process to run."""

    handle: asyncio.Handle

    def __init__(
        self, loop: StoppableLoop, callback: Callable[..., object], context: contextvars.Context
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._context = context

    def __call__(self, *args: Any) -> None:
        life = self._context.get(LIFE)
        if self._loop.lets_run(life):
            self._callback(*args)
        elif life is not None:
            life.waiting.append((self._late, args, self._context))

    def _late(self, *args: Any) -> None:
        if not self.handle.cancelled():
            self._callback(*args)
