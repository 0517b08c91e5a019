"""Scrub: each copy is read within the period; what is bad is noted, and what could not be asked is not."""

from __future__ import annotations

import asyncio

import pytest

from cluster.nouns import BLOCK_BYTES
from storage_node.grid import keys
from storage_node.site.failing import Fault
from storage_node.upkeep import scrub as scrub_module
from storage_node.upkeep.scrub import Report, Scrub
from tests.integration.grid.cluster import NAMES, Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, Clock, damage, lose, memory, store


async def scrub(c: Cluster, *, everything: bool = False) -> Report:
    return await Scrub(c.grid, UPKEEP).run_once(everything=everything)


def key_of(number: int, digest: str) -> str:
    return keys.object_key(arrival(number).instance, digest)


@pytest.mark.parametrize("harm", ["flipped", "gone", "wedged"])
async def test_a_bad_copy_is_found_noted_and_mended(harm: str) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        digest, _ = await store(c, 1, 2)
        key = key_of(1, digest)
        match harm:
            case "flipped":
                damage(c, "b", key)
            case "gone":
                del memory(c, "b").objects[key]
            case _:
                c["b"].objects.script = lambda call: (
                    Fault.OBJECT if call.key == key and call.method in ("get", "put") else None
                )
        clock.forward(days=16)
        assert await scrub(c) == Report(read=6, bad=1, interrupted=())
        assert await c.debts() == {("b", digest)}
        await c.repair()
        assert (await scrub(c, everything=True)).bad == 0
        assert await c.debts() == set()


async def test_a_block_of_a_streamed_copy_that_is_wrong_is_found() -> None:
    async with cluster() as c:
        async with await c.grid.stream(arrival(1).instance) as stream:
            await stream.write([bytes(BLOCK_BYTES), b"the end"])
            version = (await stream.complete(arrival(1))).version
        kept = memory(c, "b").objects[version.key]
        kept.content = kept.content[:-1] + b"D"
        assert (await scrub(c, everything=True)).bad == 1
        assert await c.debts() == {("b", version.digest)}


async def test_what_was_read_is_not_read_again_before_half_of_the_period_is_over() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await store(c, 1, 2)
        clock.forward(days=14)
        assert (await scrub(c)).read == 0
        clock.forward(days=2)
        assert (await scrub(c)).read == 6
        assert (await scrub(c)).read == 0
        clock.forward(days=14)
        assert (await scrub(c)).read == 0
        assert (await scrub(c, everything=True)).read == 6


async def test_a_site_that_is_down_or_goes_away_has_no_bad_copies() -> None:
    async with cluster() as c:
        await store(c, *range(3))
        await lose(c, "a")
        c["b"].fail(Fault.BEFORE, "get")
        report = await scrub(c, everything=True)
        assert (report.read, report.bad, report.interrupted) == (3, 0, ("a", "b"))
        assert await c.debts() == set()


async def test_what_was_found_before_a_site_went_away_is_noted_all_the_same() -> None:
    async with cluster() as c:
        digests = await store(c, *range(8))
        for number, digest in enumerate(digests):
            damage(c, "b", key_of(number, digest))
        c["b"].objects.script = lambda call: (
            Fault.BEFORE if call.method == "get" and call.number >= 6 else None
        )
        report = await scrub(c, everything=True)
        assert report.interrupted == ("b",)
        assert 1 <= report.bad <= 6
        assert len(await c.debts()) == report.bad


async def test_copies_that_stay_bad_are_not_read_over_and_over() -> None:
    async with cluster() as c:
        for number, digest in enumerate(await store(c, *range(3))):
            damage(c, "b", key_of(number, digest))
        assert (await scrub(c, everything=True)).read == 9


async def test_all_that_is_read_is_spread_over_half_of_the_period() -> None:
    """Three copies of one byte in half a period of 0.3 s are 10 bytes a second at each site."""
    clock = Clock()
    async with cluster(now=clock) as c:
        await store(c, *range(3))
        clock.forward(days=1)
        upkeep = UPKEEP.model_copy(update={"scrub_period_days": 2 * 0.3 / 86400})
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        daemon = Scrub(c.grid, upkeep)
        running = asyncio.create_task(daemon.run_forever())
        async with asyncio.timeout(10):
            while None in daemon.rounds.to_json().values():  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})
        assert loop.time() - began_s >= 0.2
        assert [at_site["read"] for at_site in daemon.rounds.to_json().values()] == [3, 3, 3]


async def test_a_site_that_was_away_is_read_though_the_round_at_another_goes_on_for_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scrub_module, "_ROUND_INTERVAL_S", 0.01)
    clock = Clock()
    async with cluster(now=clock) as c:
        await store(c, *range(3))
        clock.forward(days=16)
        c["a"].fail(Fault.HANG, "get")
        await lose(c, "b")
        running = asyncio.create_task(Scrub(c.grid, UPKEEP).run_forever())
        await c["a"].objects.hanging.wait()
        c["b"].heal()
        await c.grid.sites.probe()
        async with asyncio.timeout(10):
            while not any(call.method == "get" for call in c["b"].objects.calls):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})


async def test_progress_is_told() -> None:
    async with cluster() as c:
        await store(c, 1, 2)
        told: list[tuple[int, int]] = []
        await Scrub(c.grid, UPKEEP).run_once(lambda done, of: told.append((done, of)), everything=True)
        assert told[-1] == (2 * len(NAMES), 2 * len(NAMES))
