"""A simulated loop whose processes can be stopped in the middle of anything, and go on late, or never."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, Final

from tests.simulation.loop import SimulatedLoop

LIFE: Final[contextvars.ContextVar[Life | None]] = contextvars.ContextVar("life", default=None)
"""The process that the running code belongs to."""


class Life:
    """One process, from its start to its end.

    Attributes
    ----------
    runs : bool
        Whether it gets time on a processor; what happens meanwhile waits.
    """

    def __init__(self) -> None:
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
    """The loop."""

    def __init__(self) -> None:
        super().__init__(lambda task, context: None)
        self._lives: list[Life] = []
        self._over = False

    def begin(self) -> Life:
        """Return a new process."""
        life = Life()
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
        gated = _Gated(self, callback, context)
        gated.handle = handle = super().call_at(when, gated, *args, context=context)
        return handle

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
