"""Work that is done inside one host's network namespace: by a thread that is there, with an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from chaos.hosts.namespace import Namespace

T = TypeVar("T")

_HANG_UP_S: Final = 1.5
"""How long connections take to close when their peer does not answer."""


class Inside:
    """A thread in a namespace, from the start of the context to its end. It works for one event loop.

    Parameters
    ----------
    namespace : Namespace
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name=f"in {namespace.name}", daemon=True)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the thread do some work, and return what it returns. Cancelling this cancels the work."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        self._namespace.enter()
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_cancel_all())
            self._loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # Connections to a host that was taken away are hung up a moment after who used them has gone.
    await asyncio.sleep(_HANG_UP_S)
