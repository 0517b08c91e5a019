"""How the commands that end by themselves do their work."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from deploy.errors import first_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do the work on uvloop, and return what it returns.

    Log lines are for those who run a cluster: a command says itself what went wrong.
    """
    keep_silent()
    return on_loop(work)


def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Do the work on uvloop, and return what it returns; of tasks that fail together, raise why one did."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(work)
        except BaseExceptionGroup as group:
            raise first_of(group) from group


def keep_silent() -> None:
    """Have no log lines written: the command says itself what happened."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
