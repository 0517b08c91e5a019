"""Versions that are larger than memory: in blocks, bounded, and as safe as the others."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from cluster.nouns import BLOCK_BYTES
from storage_node.catalogue.protocol import Row
from storage_node.grid import keys, manifest
from storage_node.grid.arrival import Stored
from storage_node.grid.lane import Block, Lane
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Call, Fault
from storage_node.site.protocol import ObjectFault
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import NAMES, PROVENANCE, Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, Clock

MIB = 1024 * 1024
LARGE = random.Random(7).randbytes(MIB)
LARGE = b"".join(bytes([number]) + LARGE[1:] for number in range(40))


def pieces(content: bytes, size: int) -> list[memoryview]:
    view = memoryview(content)
    return [view[start : start + size] for start in range(0, len(content), size)]


async def stream(c: Cluster, content: bytes, size: int = 3 * MIB + 1) -> Stored:
    async with await c.grid.stream(arrival().instance) as writing:
        for piece in pieces(content, size):
            await writing.write([piece[:10], piece[10:]])
        return await writing.complete(arrival())


async def read(c: Cluster, stored: Stored) -> list[bytes]:
    async with aclosing(c.grid.read(stored.version)) as blocks:
        return [block async for block in blocks]


async def check_copy(c: Cluster, stored: Stored, names: set[str]) -> None:
    """Each of these sites has object, manifest and row; looked at behind the grid's back."""
    version = stored.version
    for name in names:
        folder = c[name].folder
        assert folder is not None
        content = (folder / "objects" / version.key).read_bytes()
        assert sha256(content).hexdigest() == version.digest
        described = (folder / "objects" / keys.manifest_key(version.instance, version.digest)).read_bytes()
        assert manifest.decode(described) == (version, PROVENANCE)
        assert version.digest in await c[name].rows()


async def test_forty_megabytes_go_to_all_sites_and_come_back(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await stream(c, LARGE)
        assert (stored.copies, stored.owed) == (NAMES, ())
        assert stored.version.digest == sha256(LARGE).hexdigest()
        assert stored.version.size_bytes == len(LARGE)
        await check_copy(c, stored, set(NAMES))
        blocks = await read(c, stored)
        assert [len(block) for block in blocks] == [BLOCK_BYTES] * 5
        assert b"".join(blocks) == LARGE
        assert list((tmp_path / "a/objects/_incoming").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES])
async def test_any_size_is_cut_into_blocks(size: int) -> None:
    async with cluster() as c:
        stored = await stream(c, LARGE[:size])
        assert stored.version.size_bytes == size
        assert len(stored.version.block_digests) == -(-size // BLOCK_BYTES)
        assert b"".join(await read(c, stored)) == LARGE[:size]


async def test_one_instance_may_be_streamed_before_it_is_known_which(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        async with await c.grid.stream(None) as writing:
            await writing.write([LARGE])
            stored = await writing.complete(arrival())
        assert stored.version.key.startswith("_streams/")
        await check_copy(c, stored, set(NAMES))


@pytest.mark.parametrize("method", ["upload", "write", "complete", "put", "add"])
@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER, Fault.HANG])
async def test_a_site_that_fails_on_the_way_is_owed_and_repaired(
    tmp_path: Path, method: str, fault: Fault
) -> None:
    async with cluster(tmp_path, timeout_s=2.0 if fault is Fault.HANG else None) as c:

        def script(call: Call) -> Fault | None:
            return fault if call.method == method and (method != "write" or call.number == 1) else None

        c["b"].script(script)
        stored = await stream(c, LARGE[: BLOCK_BYTES + 5])
        assert (stored.copies, stored.owed) == (("a", "c"), ("b",))
        await check_copy(c, stored, {"a", "c"})
        assert ("b", stored.version.digest) in await c["a"].debts() & await c["c"].debts()
        await c.heal()
        await c.grid.tasks.drain()
        await c.repair()
        await check_copy(c, stored, set(NAMES))
        await c.check_everywhere(stored.version.digest)


@pytest.mark.parametrize("method", ["write", "complete", "put"])
async def test_a_site_that_is_given_up_keeps_nothing_unfinished(tmp_path: Path, method: str) -> None:
    async with cluster(tmp_path) as c:
        c["b"].script(
            lambda call: Fault.BEFORE if (call.method, call.number) == (method, method == "write") else None
        )
        stored = await stream(c, LARGE[: BLOCK_BYTES + 5])
        assert stored.owed == ("b",)
        await c.grid.tasks.drain()
        assert list((tmp_path / "b/objects/_incoming").iterdir()) == []


async def test_what_lacks_a_block_is_never_made_an_object() -> None:
    async with cluster() as c:
        c["b"].fail(Fault.OBJECT, "write")
        lane = Lane(c.grid.sites["b"], "key", sites=c.grid.sites, tasks=c.grid.tasks, changed=lambda: None)
        lane.send(Block([b"block"], 5, sha256(b"block").hexdigest()))
        version = arrival().version(digest="", key="key", size_bytes=5)
        with pytest.raises(ObjectFault):
            await lane.finish(Row(version, PROVENANCE, b""))
        assert "complete" not in {call.method for call in c["b"].objects.calls}


async def test_two_sites_that_fail_on_the_way_end_it_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE, "write")
        with pytest.raises(NotEnoughSites):
            await stream(c, LARGE)
        await c.grid.tasks.drain()
        for name in NAMES:
            assert list((tmp_path / name / "objects").rglob("*.dcm")) == []
            assert list((tmp_path / name / "objects/_incoming").iterdir()) == []


async def test_too_few_sites_refuse_it_before_the_first_byte() -> None:
    async with cluster() as c:
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE, "upload")
        with pytest.raises(NotEnoughSites):
            await c.grid.stream(arrival().instance)
        await c.heal()
        for name in ("a", "b"):
            c[name].fail(Fault.BEFORE)
        await c.grid.sites.probe()
        with pytest.raises(NotEnoughSites):
            await c.grid.stream(arrival().instance)


async def test_one_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        async with await c.grid.stream(arrival().instance) as writing:
            await writing.write([LARGE])
        await c.grid.tasks.drain()
        for name in NAMES:
            assert [file.name for file in (tmp_path / name / "objects").rglob("*") if file.is_file()] == [
                "_site.json"
            ]
            assert not await c[name].rows()


async def test_no_more_is_taken_than_one_block_and_two_on_their_way() -> None:
    async with cluster(grace_s=60) as c:
        for name in ("b", "c"):
            c[name].fail(Fault.HANG, "write")
        async with await c.grid.stream(arrival().instance) as writing:
            await writing.write([LARGE[: BLOCK_BYTES * 3 - 1]])
            more = asyncio.create_task(writing.write([LARGE[:1]]))
            await asyncio.sleep(0.05)
            assert not more.done()
            c["b"].heal()
            c["c"].heal()
            await more


async def test_a_site_that_cannot_keep_up_is_given_up_after_its_grace_and_owed() -> None:
    async with cluster(grace_s=0.2, timeout_s=60) as c:
        c["c"].fail(Fault.HANG, "write")
        started = asyncio.get_running_loop().time()
        stored = await stream(c, LARGE)
        assert (stored.copies, stored.owed) == (("a", "b"), ("c",))
        assert asyncio.get_running_loop().time() - started < 10
        assert c.grid.health()["c"].up
        await c.check_acknowledged(stored.version.digest)
        c["c"].heal()
        await c.grid.tasks.drain()
        await c.repair()
        await c.check_everywhere(stored.version.digest)


async def test_a_site_that_is_a_block_behind_holds_up_nobody_and_catches_up() -> None:
    async with cluster(grace_s=60, timeout_s=60) as c:
        c["c"].fail(Fault.HANG, "write")
        async with await c.grid.stream(arrival().instance) as writing:
            await writing.write([LARGE[: BLOCK_BYTES * 2]])
            c["c"].heal()
            await writing.write([LARGE[BLOCK_BYTES * 2 :]])
            stored = await writing.complete(arrival())
        assert stored.copies == NAMES
        await c.check_everywhere(stored.version.digest)


async def test_what_two_of_three_sites_wait_for_is_no_reason_to_give_one_up() -> None:
    async with cluster(grace_s=0.01, timeout_s=60) as c:
        for name in ("b", "c"):
            c[name].fail(Fault.HANG, "write")
        async with await c.grid.stream(arrival().instance) as writing:
            more = asyncio.create_task(writing.write([LARGE]))
            await asyncio.sleep(0.1)
            assert not more.done()
            c["b"].heal()
            await more
            stored = await writing.complete(arrival())
        assert stored.owed == ("c",)
        await c.check_acknowledged(stored.version.digest)


async def test_a_site_that_hangs_at_the_beginning_holds_up_nobody() -> None:
    async with cluster(grace_s=0.1, timeout_s=60) as c:
        c["a"].fail(Fault.HANG, "upload")
        stored = await stream(c, LARGE)
        assert stored.owed == ("a",)
        await c.check_acknowledged(stored.version.digest)


async def test_a_fault_of_our_own_in_one_lane_ends_that_lane_alone() -> None:
    def script(call: Call) -> Fault | None:
        if call.method == "write":
            raise ZeroDivisionError
        return None

    async with cluster(grace_s=60) as c:
        c["b"].objects.script = script
        stored = await stream(c, LARGE)
        assert stored.owed == ("b",)
        await c.check_acknowledged(stored.version.digest)


@pytest.mark.parametrize("turns", range(0, 60, 4))
async def test_one_that_is_cancelled_anywhere_is_whole_or_not_there(turns: int) -> None:
    async with cluster() as c:
        writing = asyncio.create_task(stream(c, LARGE[: BLOCK_BYTES + 5], BLOCK_BYTES))
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait({writing})
        await c.grid.tasks.drain()
        digests = {digest for site in c.sites.values() for digest in await site.rows()}
        for site in c.sites.values():
            counts = await site.inner.counts()
            assert counts.versions == len(digests)
            assert counts.debts == 0


async def test_a_block_that_is_rotten_is_taken_from_another_site(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stored = await stream(c, LARGE)
        rot(tmp_path / "a/objects" / stored.version.key, 0)
        rot(tmp_path / "b/objects" / stored.version.key, 0)
        rot(tmp_path / "c/objects" / stored.version.key, 4 * BLOCK_BYTES)
        assert b"".join(await read(c, stored)) == LARGE
        await c.grid.tasks.drain()
        await c.repair()
        await check_copy(c, stored, {"a", "b"})


def rot(file: Path, position: int) -> None:
    with file.open("r+b") as content:
        content.seek(position)
        byte = content.read(1)
        content.seek(position)
        content.write(bytes([byte[0] ^ 1]))


async def test_a_version_that_has_another_key_at_one_site_is_found_verified_and_repaired(
    tmp_path: Path,
) -> None:
    """Sent twice, each time to two of three sites: the rows of one version name two keys."""
    async with cluster(tmp_path) as c:
        content = LARGE[: BLOCK_BYTES + 1]
        stored = []
        for away in ("c", "a"):
            c[away].fail(Fault.BEFORE)
            await c.grid.sites.probe()
            stored.append(await stream(c, content))
            await c.heal()
        first, second = stored
        for site in c.sites.values():
            await site.inner.settle("a", await own_row(c, "b"))
            await site.inner.settle("c", await own_row(c, "b"))
        assert (await own_row(c, "a")).version.key == first.version.key
        assert (await own_row(c, "c")).version.key == second.version.key
        assert (await verify(c.grid)).complete
        for name in ("a", "b"):
            for key in (first.version.key, second.version.key):
                (tmp_path / name / "objects" / key).unlink(missing_ok=True)
        for version in (first.version, second.version):
            assert b"".join(await read(c, replace(first, version=version))) == content
        await c.grid.tasks.drain()
        await c.repair()
        assert (await verify(c.grid)).complete
        for name in NAMES:
            row = await own_row(c, name)
            assert (tmp_path / name / "objects" / row.version.key).read_bytes() == content


async def own_row(c: Cluster, name: str) -> Row:
    (row,) = await c[name].inner.rows_of(arrival().instance)
    return row


async def test_the_same_content_streamed_twice_is_one_version(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        first, second = [await stream(c, LARGE[: BLOCK_BYTES + 1]) for _ in range(2)]
        assert first.version.digest == second.version.digest
        assert first.version == replace(second.version, key=first.version.key)
        (row,) = await c.grid.rows_of(arrival().instance)
        assert b"".join(await read(c, replace(first, version=row.version))) == LARGE[: BLOCK_BYTES + 1]


async def test_a_writer_that_stood_still_takes_no_row_to_a_copy_that_was_collected() -> None:
    """Its sender had sent the instance again, to another, and was told of success."""
    clock = Clock()
    async with cluster(now=clock) as c:
        for name in NAMES:
            c[name].catalogue.script = lambda call: (
                Fault.HANG if (call.method, call.number) == ("add", 0) else None
            )
        first = asyncio.create_task(stream(c, LARGE[:9_000_000]))
        for name in NAMES:
            await c[name].catalogue.hanging.wait()
        clock.forward(days=2)
        again = await stream(c, LARGE[:9_000_000])
        assert (await Collection(c.grid, UPKEEP).run_once()).removed == 3
        for name in NAMES:
            c[name].heal()
        with pytest.raises(NotEnoughSites, match="may have been collected"):
            await first
        assert b"".join(await read(c, again)) == LARGE[:9_000_000]
        assert (await verify(c.grid, deep=True)).complete
