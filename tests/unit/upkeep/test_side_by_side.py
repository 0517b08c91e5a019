"""Walking through the sites' studies side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from storage_node.upkeep.studies import side_by_side

T = TypeVar("T")


class Asking:
    """Sites that are asked without a time limit."""

    async def ask(self, site: object, call: Awaitable[T], **_: object) -> T:
        return await call


def a_site(name: str, *, turns_to_end: int, begun: asyncio.Event) -> Any:
    """A site whose catalogue does not answer, and takes some turns of the loop to be cancelled."""

    async def studies() -> AsyncGenerator[Any]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(turns_to_end):
                await asyncio.sleep(0)
        yield

    return SimpleNamespace(name=name, catalogue=SimpleNamespace(studies=studies))


async def test_a_walk_that_is_cancelled_ends_when_all_sites_have_let_go() -> None:
    begun = asyncio.Event()
    chosen = [a_site(name, turns_to_end=turns, begun=begun) for name, turns in (("a", 0), ("b", 20))]
    asking: Any = Asking()
    walking = asyncio.ensure_future(anext(side_by_side(asking, chosen, set())))
    await begun.wait()
    await asyncio.sleep(0)
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking
