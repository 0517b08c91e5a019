from __future__ import annotations

import asyncio

import pytest

from storage_node.services.budget import Budget
from tests.waiting import soon


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_for_more_than_is_left_waits_until_it_is_given_back() -> None:
    budget = Budget(10)
    second_entered = asyncio.Event()

    async def second() -> None:
        async with budget.hold(5):
            second_entered.set()

    async with budget.hold(6):
        task = asyncio.create_task(second())
        await _settle()
        assert not second_entered.is_set()
    async with soon("the second has its turn"):
        await second_entered.wait()
    await task


async def test_a_request_larger_than_the_budget_gets_all_of_it_instead_of_waiting_for_ever() -> None:
    async with soon("it has all there is"), Budget(10).hold(100):
        pass


async def test_a_small_request_does_not_overtake_a_large_one_that_waits() -> None:
    budget = Budget(10)
    order: list[str] = []

    async def hold(name: str, size_bytes: int) -> None:
        async with budget.hold(size_bytes):
            order.append(name)

    async with budget.hold(8):
        tasks = [asyncio.create_task(hold("large", 9)), asyncio.create_task(hold("small", 1))]
        await _settle()
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


@pytest.mark.parametrize("admitted_first", [False, True])
async def test_who_is_cancelled_while_waiting_leaves_nothing_held(*, admitted_first: bool) -> None:
    budget = Budget(10)

    async def hold() -> None:
        async with budget.hold(10):
            pytest.fail("it was cancelled before its turn")

    holder = budget.hold(10)
    await holder.__aenter__()
    waiting = asyncio.create_task(hold())
    await _settle()
    if admitted_first:
        await holder.__aexit__(None, None, None)
        waiting.cancel()
    else:
        waiting.cancel()
        await holder.__aexit__(None, None, None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with soon("all is given back"), budget.hold(10):
        pass
