"""Anti-entropy: what a site lacks without anybody having noted it is noted, and then repaired."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.upkeep.anti_entropy import AntiEntropy, Comparison
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import arrival, cluster


async def test_what_a_refused_write_left_at_one_site_comes_to_all(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        for name in ("b", "c"):
            c[name].fail(Fault.BEFORE, "add")
        with pytest.raises(NotEnoughSites):
            await c.grid.store(arrival(), [b"left"])
        await c.heal()
        ((digest, _),) = (await c["a"].rows()).items()
        assert not (await verify(c.grid)).complete
        assert (await AntiEntropy(c.grid).run_once()).found == 2
        await Repair(c.grid).run_once()
        await c.check_everywhere(digest)
        assert (await verify(c.grid)).complete
        assert (await AntiEntropy(c.grid).run_once()).found == 0


async def test_a_catalogue_that_cannot_be_read_is_not_taken_for_one_that_lacks_everything(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as c:
        await c.grid.store(arrival(), [b"x"])
        for method in ("walk", "rows_of"):
            c["b"].fail(Fault.BEFORE, method)
            assert (await AntiEntropy(c.grid).run_once()).found == 0
            await c.heal()
        assert await c["a"].debts() == set()


async def test_a_version_that_was_stored_while_the_catalogues_were_walked_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path) as c:
        anti_entropy = AntiEntropy(c.grid)
        seen_early = c["a"].inner
        walk = seen_early.walk

        async def late_walk() -> object:
            async for entry in walk():
                yield entry
            stored = await c.grid.store(arrival(7), [b"7"])
            yield stored.version.instance, stored.version.digest, stored.version.key

        monkeypatch.setattr(seen_early, "walk", late_walk)
        comparison = await anti_entropy.run_once()
        assert (comparison.versions, comparison.found) == (1, 0)


async def test_it_runs_again_at_once_when_it_is_asked_to(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        anti_entropy = AntiEntropy(c.grid)
        runs: asyncio.Queue[None] = asyncio.Queue()
        run_once = anti_entropy.run_once

        async def counted() -> Comparison:
            runs.put_nowait(None)
            return await run_once()

        anti_entropy.run_once = counted  # type: ignore[method-assign]
        running = asyncio.create_task(anti_entropy.run_forever(3600))
        async with asyncio.timeout(10):
            await runs.get()
            anti_entropy.run_soon()
            await runs.get()
        running.cancel()
        await asyncio.wait({running})


async def test_it_ends_when_it_is_cancelled_in_the_moment_in_which_it_is_asked_to_run(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as c:
        anti_entropy = AntiEntropy(c.grid)
        waits = asyncio.Event()
        run_once = anti_entropy.run_once

        async def then_wait() -> Comparison:
            asyncio.get_running_loop().call_later(0.05, waits.set)
            return await run_once()

        anti_entropy.run_once = then_wait  # type: ignore[method-assign]
        running = asyncio.create_task(anti_entropy.run_forever(3600))
        async with asyncio.timeout(10):
            await waits.wait()
            anti_entropy.run_soon()
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})
        assert running.cancelled()
