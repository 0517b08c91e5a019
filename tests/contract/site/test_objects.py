"""What every implementation of `Objects` promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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

IDENTITY = SiteIdentity("a", "6f1c5a0e-6a43-4b6f-9c39-7f1f6a3f2d11", 1)


@pytest.fixture(params=["file system", "memory", "failing"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Objects]:
    objects: Objects
    if request.param == "file system":
        FileSystemObjects.create(tmp_path / "objects", IDENTITY)
        objects = FileSystemObjects("a", tmp_path / "objects", IDENTITY)
    else:
        objects = MemoryObjects("a", IDENTITY)
    if request.param == "failing":
        objects = FailingObjects(objects)
    yield objects
    await objects.close()


async def put(site: Objects, key: str, content: bytes, **metadata: str) -> None:
    await site.put(key, [content], digest=sha256(content).hexdigest(), metadata=metadata)


async def keys(site: Objects, prefix: str = "") -> list[str]:
    return [found.key async for found in site.list(prefix)]


async def test_it_says_which_site_it_is(site: Objects) -> None:
    assert site.name == "a"
    assert await site.identity() == IDENTITY


async def test_what_was_put_is_there_with_its_metadata(site: Objects) -> None:
    parts: list[Buffer] = [b"one", bytearray(b"two"), memoryview(b"-three")[1:], b""]
    await site.put("s/t/u/x.dcm", parts, digest="", metadata={"calling-ae": "CT1"})
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


async def test_list_shows_objects_by_prefix_in_the_order_of_keys(site: Objects) -> None:
    names = ["1.2/a", "1/a", "1/b/c", "1.2.3/x", "_facts/f", "1-2/a", "10"]
    for name in names:
        await put(site, name, name.encode(), source=name)
    assert await keys(site) == sorted(names)
    assert await keys(site, "1.2") == ["1.2.3/x", "1.2/a"]
    assert await keys(site, "1/") == ["1/a", "1/b/c"]
    assert await keys(site, "1/b/c") == ["1/b/c"]
    assert await keys(site, "2") == []
    assert [dict(found.metadata)["source"] async for found in site.list("1/")] == ["1/a", "1/b/c"]


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
    await site.close()
    with pytest.raises(SiteUnavailable):
        await site.identity()


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
