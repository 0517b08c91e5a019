from __future__ import annotations

import asyncio

import pytest

from balancer.queue import Queue, QueueFull
from tests.waiting import soon


class Room:
    """Places of one kind; attempts take them."""

    def __init__(self, free: int = 0) -> None:
        self.free = free

    def take(self) -> str | None:
        if not self.free:
            return None
        self.free -= 1
        return "place"

    def give_back(self, _: str) -> None:
        self.free += 1


def queue(limit: int = 10) -> Queue[str]:
    return Queue(lambda: limit)


async def start(queue: Queue[str], room: Room) -> asyncio.Task[str]:
    task = asyncio.create_task(queue.wait(queue.place(), room.take, room.give_back))
    await asyncio.sleep(0)
    return task


async def end(*tasks: asyncio.Task[str]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_first_come_is_first_served() -> None:
    waiting, room = queue(), Room()
    first, second = await start(waiting, room), await start(waiting, room)
    room.free = 1
    waiting.wake()
    assert await first == "place"
    assert not second.done()
    assert len(waiting) == 1
    await end(second)


async def test_where_there_is_nothing_to_be_had_nobody_tries() -> None:
    room, attempts = Room(), 0

    def attempt() -> str | None:
        nonlocal attempts
        attempts += 1
        return room.take()

    waiting = Queue[str](lambda: 10, lambda: bool(room.free))
    tasks = [asyncio.create_task(waiting.wait(waiting.place(), attempt, room.give_back)) for _ in range(3)]
    await asyncio.sleep(0)
    assert waiting.attempt(room.take) is None
    assert attempts == 0
    room.free = 2
    assert waiting.attempt(room.take) is None
    assert attempts == 2
    assert await asyncio.gather(*tasks[:2]) == ["place", "place"]
    await end(tasks[2])


async def test_one_that_cannot_be_served_holds_up_nobody() -> None:
    waiting, full, open_ = queue(), Room(), Room()
    stuck, served = await start(waiting, full), await start(waiting, open_)
    open_.free = 1
    waiting.wake()
    assert await served == "place"
    assert not stuck.done()
    await end(stuck)


async def test_who_comes_later_does_not_overtake() -> None:
    waiting, room = queue(), Room()
    first = await start(waiting, room)
    room.free = 1
    assert waiting.attempt(room.take) is None
    assert await first == "place"


async def test_who_comes_back_stands_where_it_stood() -> None:
    waiting, room = queue(), Room()
    place = waiting.place()
    later = await start(waiting, room)
    back = asyncio.create_task(waiting.wait(place, room.take, room.give_back))
    await asyncio.sleep(0)
    room.free = 1
    waiting.wake()
    assert await back == "place"
    assert not later.done()
    await end(later)


async def test_who_comes_back_is_not_turned_away_for_one_who_came_meanwhile() -> None:
    waiting, room = queue(limit=1), Room()
    place = waiting.place()
    later = await start(waiting, room)
    back = asyncio.create_task(waiting.wait(place, room.take, room.give_back))
    await asyncio.sleep(0)
    room.free = 1
    waiting.wake()
    assert await back == "place"
    await end(later)


async def test_no_more_wait_than_may() -> None:
    waiting, room = queue(limit=1), Room()
    first = await start(waiting, room)
    with pytest.raises(QueueFull):
        await waiting.wait(waiting.place(), room.take, room.give_back)
    await end(first)
    assert len(waiting) == 0
    again = await start(waiting, Room(1))
    assert await again == "place"


async def test_who_is_cancelled_at_the_moment_it_is_served_gives_back_what_it_got() -> None:
    waiting, room = queue(), Room()
    first, second = await start(waiting, room), await start(waiting, room)
    room.free = 1
    first.cancel()
    waiting.wake()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert room.free == 1
    waiting.wake()
    assert await second == "place"


async def test_what_no_event_tells_is_found_all_the_same() -> None:
    waiting, room = queue(), Room()
    task = await start(waiting, room)
    room.free = 1
    async with soon("it has its turn"):
        assert await task == "place"
