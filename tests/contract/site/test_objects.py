"""What every implementation of `Objects` promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.nouns import Buffer, SiteIdentity
from storage_node.site.failing import FailingObjects
from storage_node.site.file_system import FileSystemObjects
from storage_node.site.memory import MemoryObjects
from storage_node.site.protocol import ObjectMissing, Objects, SiteUnavailable
from tests.contract.site.minio import new_site

MIB = 1024 * 1024
IDENTITY = SiteIdentity("a", "6f1c5a0e-6a43-4b6f-9c39-7f1f6a3f2d11", 1)


@pytest.fixture(params=["file system", "memory", "failing", "S3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    match request.param:
        case "S3":
            return new_site(request.getfixturevalue("minio"), IDENTITY)
        case "file system":
            FileSystemObjects.create(tmp_path / "objects", IDENTITY)
            return FileSystemObjects("a", tmp_path / "objects", IDENTITY)
        case "failing":
            return FailingObjects(MemoryObjects("a", IDENTITY))
        case _:
            return MemoryObjects("a", IDENTITY)


@pytest.fixture
async def site(opened: Objects) -> AsyncIterator[Objects]:
    yield opened
    await opened.close()


async def put(site: Objects, key: str, content: bytes, **metadata: str) -> None:
    await site.put(key, [content], digest=sha256(content).hexdigest(), metadata=metadata)


async def keys(site: Objects, prefix: str = "") -> list[str]:
    return [found.key async for found in site.list(prefix)]


async def test_it_says_which_site_it_is(site: Objects) -> None:
    assert site.name == "a"
    assert await site.identity() == IDENTITY


async def test_what_was_put_is_there_with_its_metadata(site: Objects) -> None:
    parts: list[Buffer] = [b"one", bytearray(b"two"), memoryview(b"-three")[1:], b""]
    digest = sha256(b"onetwothree").hexdigest()
    await site.put("s/t/u/x.dcm", parts, digest=digest, metadata={"calling-ae": "CT1"})
    assert await site.get("s/t/u/x.dcm") == b"onetwothree"
    described = await site.head("s/t/u/x.dcm")
    assert (described.key, described.size_bytes) == ("s/t/u/x.dcm", 11)
    assert dict(described.metadata) == {"calling-ae": "CT1"}
    assert described.modified_at.tzinfo is not None


async def test_an_empty_object_is_an_object(site: Objects) -> None:
    await put(site, "s/empty", b"")
    assert await site.get("s/empty") == b""
    assert (await site.head("s/empty")).size_bytes == 0


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, None, b"0123456789"), (3, 4, b"3456"), (8, 100, b"89"), (10, 5, b""), (99, None, b""), (0, 0, b"")],
)
async def test_a_range_is_cut_at_the_end(
    site: Objects, start: int, length: int | None, expected: bytes
) -> None:
    await put(site, "x", b"0123456789")
    assert await site.get("x", start, length) == expected


async def test_what_is_not_there_is_missing(site: Objects) -> None:
    await put(site, "s/t", b"x")
    for key in ("nothing", "s/other", "s/t2/u"):
        with pytest.raises(ObjectMissing):
            await site.get(key)
        with pytest.raises(ObjectMissing):
            await site.head(key)


async def test_a_put_replaces_what_stood_there(site: Objects) -> None:
    await put(site, "s/x", b"rotten", source="one")
    before = await site.head("s/x")
    await put(site, "s/x", b"sound", source="two")
    after = await site.head("s/x")
    assert await site.get("s/x") == b"sound"
    assert dict(after.metadata) == {"source": "two"}
    assert before.version_id != after.version_id


async def test_a_version_keeps_its_id(site: Objects) -> None:
    await put(site, "s/x", b"x")
    assert (await site.head("s/x")).version_id == (await site.head("s/x")).version_id


async def test_delete_removes_exactly_what_was_looked_at(site: Objects) -> None:
    await put(site, "s/x", b"old")
    looked_at = await site.head("s/x")
    await put(site, "s/x", b"new", source="writer")
    await site.delete("s/x", looked_at.version_id)
    assert await site.get("s/x") == b"new"
    assert dict((await site.head("s/x")).metadata) == {"source": "writer"}
    await site.delete("s/x", (await site.head("s/x")).version_id)
    with pytest.raises(ObjectMissing):
        await site.head("s/x")
    await site.delete("s/x", looked_at.version_id)
    await site.delete("never/was", looked_at.version_id)


async def test_delete_does_not_bring_back_what_was_replaced(site: Objects) -> None:
    for content in (b"one", b"two", b"three"):
        await put(site, "s/x", content)
    await put(site, "s/x2", b"another")
    await site.delete("s/x", (await site.head("s/x")).version_id)
    with pytest.raises(ObjectMissing):
        await site.get("s/x")
    assert await keys(site) == ["s/x2"]


@pytest.mark.parametrize("key", ["%2E/a%2Fb/%25/x.dcm", "1.2/~x/+ &=/d~ab12.dcm", "_facts/%C3%A4/1/f.json"])
async def test_a_key_is_taken_as_it_is(site: Objects, key: str) -> None:
    await put(site, key, b"x", source="s")
    assert await site.get(key) == b"x"
    assert (await site.head(key)).key == key
    assert await keys(site) == await keys(site, key) == [key]
    assert [folder async for folder in site.folders()] == [key.partition("/")[0]]
    await site.delete(key, (await site.head(key)).version_id)
    assert await keys(site) == []


async def test_metadata_comes_back_as_it_was(site: Objects) -> None:
    metadata = {
        "received-at": "2026-11-21T23:54:36.000001+00:00",
        "calling-ae": " A  B ",
        "called-ae": "",
        "source": "%41\r\nx-amz-meta-called-ae: EVIL",
    }
    await put(site, "s/x", b"x", **metadata)
    assert dict((await site.head("s/x")).metadata) == metadata


async def test_folders_are_the_first_parts_of_keys_in_the_order_of_keys(site: Objects) -> None:
    for key in ("1/a/b", "1/a/c", "1.2/a", "1.2/b", "_facts/1/x", "_streams/u.dcm", "alone", "10/a"):
        await put(site, key, b"x")
    assert [folder async for folder in site.folders()] == ["1.2", "1", "10", "_facts", "_streams"]


async def test_a_listing_of_more_than_a_page_is_whole(site: Objects) -> None:
    names = [f"s/{number:04}" for number in range(1010)]
    for start in range(0, len(names), 101):
        await asyncio.gather(*(put(site, name, b"") for name in names[start : start + 101]))
    assert await keys(site, "s/") == names


async def test_sweep_removes_what_was_begun_before_and_never_finished(site: Objects) -> None:
    left = await site.upload("s/left", metadata={})
    await left.write([b"abc"])
    now = datetime.now(UTC)
    assert await site.sweep(now - timedelta(hours=1)) == 0
    assert await site.sweep(now + timedelta(seconds=5)) == 1
    assert await site.sweep(now + timedelta(seconds=5)) == 0
    assert await keys(site) == []


async def test_room_is_told_or_not_known(site: Objects) -> None:
    free_bytes = await site.free_bytes()
    assert free_bytes is None or free_bytes > 0


async def test_list_shows_objects_by_prefix_in_the_order_of_keys(site: Objects) -> None:
    names = ["1.2/a", "1/a", "1/b/c", "1.2.3/x", "_facts/f", "1-2/a", "10"]
    for name in names:
        await put(site, name, name.encode(), source=name)
    assert await keys(site) == sorted(names)
    assert await keys(site, "1.2") == ["1.2.3/x", "1.2/a"]
    assert await keys(site, "1/") == ["1/a", "1/b/c"]
    assert await keys(site, "1/b/c") == ["1/b/c"]
    assert await keys(site, "2") == []
    assert [found.size_bytes async for found in site.list("1/")] == [3, 5]
    async for found in site.list():
        described = await site.head(found.key)
        assert abs(found.modified_at - described.modified_at) < timedelta(seconds=1)


async def test_an_upload_is_seen_only_when_it_is_complete(site: Objects) -> None:
    upload = await site.upload("s/big", metadata={"source": "x"})
    await upload.write([b"ab", b"c"])
    await upload.write([b"def"])
    assert await keys(site) == []
    await upload.complete()
    assert await site.get("s/big") == b"abcdef"
    assert dict((await site.head("s/big")).metadata) == {"source": "x"}
    await upload.abort()
    assert await keys(site) == ["s/big"]


async def test_an_upload_of_blocks_large_and_small_is_whole(site: Objects) -> None:
    blocks = [
        bytes([number]) * size for number, size in enumerate((1, 8 * MIB, 3 * MIB, 3 * MIB, 6 * MIB, 5))
    ]
    upload = await site.upload("s/big", metadata={"source": "x"})
    for block in blocks:
        half = len(block) // 2
        await upload.write([block[:half], block[half:]], digest=sha256(block).hexdigest())
    await upload.complete()
    whole = b"".join(blocks)
    assert await site.get("s/big") == whole
    assert await site.get("s/big", 8 * MIB, 4 * MIB) == whole[8 * MIB : 12 * MIB]
    described = await site.head("s/big")
    assert (described.size_bytes, dict(described.metadata)) == (len(whole), {"source": "x"})


async def test_an_upload_of_nothing_is_an_empty_object(site: Objects) -> None:
    upload = await site.upload("s/empty", metadata={})
    await upload.complete()
    assert await site.get("s/empty") == b""


async def test_an_upload_that_ended_takes_no_more(site: Objects) -> None:
    upload = await site.upload("s/big", metadata={})
    await upload.abort()
    with pytest.raises(SiteUnavailable):
        await upload.write([b"abc"])
    with pytest.raises(SiteUnavailable):
        await upload.complete()


async def test_an_aborted_upload_leaves_nothing(site: Objects) -> None:
    await put(site, "s/big", b"before")
    upload = await site.upload("s/big", metadata={})
    await upload.write([b"abc"])
    await upload.abort()
    await upload.abort()
    assert await site.get("s/big") == b"before"


async def test_puts_of_one_key_at_once_leave_one_of_them_whole(site: Objects) -> None:
    contents = [bytes([number]) * 10_000 for number in range(8)]
    await asyncio.gather(*(put(site, "s/t/x", content) for content in contents))
    assert await site.get("s/t/x") in contents
    assert await keys(site) == ["s/t/x"]


async def test_puts_into_new_folders_at_once_all_succeed(site: Objects) -> None:
    names = [f"study/series/{number % 3}/{number}" for number in range(24)]
    await asyncio.gather(*(put(site, name, name.encode()) for name in names))
    assert await keys(site) == sorted(names)


async def test_a_closed_site_is_unavailable(site: Objects) -> None:
    await put(site, "s/x", b"x")
    await site.close()
    for call in (site.identity(), site.get("s/x"), put(site, "s/x", b"x"), site.free_bytes(), keys(site)):
        with pytest.raises(SiteUnavailable):
            await call


@given(
    parts=st.lists(st.binary(max_size=50), max_size=40), start=st.integers(0, 500), length=st.integers(0, 500)
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_parts_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], start: int, length: int
) -> None:
    async def check() -> None:
        folder = tmp_path_factory.mktemp("site") / "objects"
        FileSystemObjects.create(folder, IDENTITY)
        for site in (FileSystemObjects("a", folder, IDENTITY), MemoryObjects("a", IDENTITY)):
            await site.put("k", parts, digest="", metadata={})
            whole = b"".join(parts)
            assert await site.get("k") == whole
            assert await site.get("k", start, length) == whole[start : start + length]
            await site.close()

    asyncio.run(check())
