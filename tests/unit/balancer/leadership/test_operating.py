"""What operators see of the balancers, ask of the leader, and may say of those that are gone."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from balancer.leadership import operating, orders
from balancer.leadership.known import KEY
from balancer.leadership.tenure import ELECTION
from cluster.coordination.member_json import encode
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.registry import Address, Member


def member(name: str) -> Member:
    link = Address(name, 8113)
    return Member("balancer", name, Address(name, 1), 1, "0", datetime.now(UTC), link=link)


@pytest.fixture
async def store() -> MemoryCoordination:
    """lb1 leads, lb2 is listed and not there, lb3 is there and not listed."""
    found = MemoryCoordination()
    await found.put(KEY, json.dumps({"lb1": "lb1:8113", "lb2": "lb2:8113"}).encode())
    await found.put(ELECTION, b"lb1")
    for name in ("lb1", "lb3"):
        await found.put(f"members/balancer/{name}/x", encode(member(name)))
    return found


async def test_all_balancers_are_shown_that_are_listed_or_there(store: MemoryCoordination) -> None:
    assert [
        (one.name, one.is_listed, one.is_there, one.leads) for one in await operating.balancers(store)
    ] == [("lb1", True, True, True), ("lb2", True, False, False), ("lb3", False, True, False)]


async def test_one_that_is_gone_is_forgotten_and_the_others_stay(store: MemoryCoordination) -> None:
    assert await operating.forget(store, "lb2") is None
    assert json.loads((await store.read(KEY)).entries[KEY].value) == {"lb1": "lb1:8113"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lb1", "it is running: end it first"),
        ("lb3", "it is running: end it first"),
        ("lb9", "it is not in the list of balancers"),
    ],
)
async def test_one_that_runs_or_is_not_known_is_not_forgotten(
    store: MemoryCoordination, name: str, why: str
) -> None:
    assert await operating.forget(store, name) == why


@pytest.mark.parametrize("why", [None, "there is no other balancer"])
async def test_the_leader_answers_an_order_once(store: MemoryCoordination, why: str | None) -> None:
    asked: list[tuple[str, str | None]] = []

    async def follow(name: str) -> None:
        async def obey(to: str | None) -> str | None:
            asked.append((name, to))
            return why

        await orders.follow(store, obey, 0.1, lambda: name == "lb1")

    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(name)) for name in ("lb1", "lb2")]
        assert await orders.give(store, "lb2", 5.0) == why
        for task in following:
            task.cancel()
    assert asked == [("lb1", "lb2")]
    assert not (await store.read(orders.PREFIX)).entries


async def test_an_order_without_a_leader_is_not_carried_out_later(store: MemoryCoordination) -> None:
    with pytest.raises(TimeoutError):
        await orders.give(store, None, 0.05)
    assert not (await store.read(orders.PREFIX)).entries


async def test_an_order_that_makes_no_sense_is_refused(store: MemoryCoordination) -> None:
    async def obey(to: str | None) -> str | None:
        return f"there is no balancer {to}"

    lease = await store.grant(5.0)
    following = asyncio.create_task(orders.follow(store, obey, 0.1, lambda: True))
    revision = await store.put("hand-over/1", b"[", lease=lease)
    async with asyncio.timeout(5):
        (change,) = await anext(store.watch("hand-over/1/answer", revision))
    following.cancel()
    assert change.entry is not None
    assert json.loads(change.entry.value) == {"refused": "there is no balancer ?"}
