"""Pace: so much at once and no more, in order; and a set number of bytes a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from storage_node.upkeep.pace import Pace, all_of, each, in_turn, together


async def test_items_are_begun_in_their_order_and_so_many_at_once() -> None:
    begun: list[int] = []
    working = most = 0

    async def work(item: int) -> None:
        nonlocal working, most
        begun.append(item)
        working += 1
        most = max(most, working)
        await asyncio.sleep(0.001 * (item % 3))
        working -= 1

    await each(in_turn(range(20)), work, at_once=4)
    assert begun == list(range(20))
    assert most == 4


async def test_after_a_fault_no_other_item_is_begun_and_it_is_raised() -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        if item == 2:
            raise ZeroDivisionError
        await asyncio.sleep(0.01)
        ended.append(item)

    with pytest.raises(ZeroDivisionError):
        await each(in_turn(range(100)), work, at_once=3)
    assert ended == [0, 1]


async def test_a_fault_of_what_yields_the_items_is_raised() -> None:
    async def items() -> AsyncGenerator[int]:
        yield 1
        raise ZeroDivisionError

    done: list[int] = []

    async def work(item: int) -> None:
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        await each(items(), work, at_once=3)
    assert done == [1]


async def test_work_that_is_cancelled_ends_before_what_yields_its_items_is_closed() -> None:
    asked = asyncio.Event()

    async def items() -> AsyncGenerator[int]:
        yield 1
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:  # it takes some turns to let go
            for _ in range(20):
                await asyncio.sleep(0)

    async def work(_: int) -> None:
        await asyncio.Event().wait()

    working = asyncio.ensure_future(each(items(), work, at_once=3))
    await asked.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


@pytest.mark.parametrize("first", ["a cancellation", "a failure"])
async def test_what_is_cancelled_again_while_it_ends_is_awaited_all_the_same(first: str) -> None:
    ended: list[str] = []
    ending = asyncio.Event()
    fail = asyncio.Event()

    async def failing() -> None:
        await fail.wait()
        raise ZeroDivisionError

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            for _ in range(20):
                await asyncio.sleep(0)
            ended.append("slow")

    working = asyncio.ensure_future(together([failing(), slow()]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if first == "a failure":
        fail.set()
    else:
        working.cancel()
    await ending.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended == ["slow"]


async def test_all_are_awaited_to_their_end_before_the_first_fault_is_raised() -> None:
    ended: list[int] = []

    async def one(number: int) -> None:
        await asyncio.sleep(0.001 * number)
        ended.append(number)
        if number in (1, 2):
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        await all_of(one(number) for number in range(4))
    assert ended == [0, 1, 2, 3]


async def test_bytes_are_let_through_at_the_set_rate() -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    pace = Pace(1_000_000)
    await asyncio.gather(*(pace.spend(10_000) for _ in range(11)))
    assert 0.09 <= loop.time() - began_s < 10
    await Pace(None).spend(10**15)
