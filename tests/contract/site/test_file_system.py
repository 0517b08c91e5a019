"""What only a site of files can get wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.nouns import SiteIdentity
from storage_node.site import file_system, root, threads
from storage_node.site.file_system import FileSystemObjects
from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteFull, SiteUnavailable
from tests.waiting import until

IDENTITY = SiteIdentity("a", "6f1c5a0e-6a43-4b6f-9c39-7f1f6a3f2d11", 1)
OTHER = SiteIdentity("a", "0d4a5f8e-0000-4b6f-9c39-7f1f6a3f2d22", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    FileSystemObjects.create(tmp_path / "objects", IDENTITY)
    return tmp_path / "objects"


@pytest.fixture
async def site(folder: Path) -> AsyncIterator[FileSystemObjects]:
    objects = FileSystemObjects("a", folder, IDENTITY)
    yield objects
    await objects.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def put(site: FileSystemObjects, key: str, content: bytes = b"x") -> None:
    await site.put(key, [content], digest="", metadata={"source": "s"})


def test_create_may_be_repeated_but_takes_no_other_folder(tmp_path: Path, folder: Path) -> None:
    FileSystemObjects.create(folder, IDENTITY)
    with pytest.raises(FileExistsError):
        FileSystemObjects.create(folder, OTHER)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        FileSystemObjects.create(tmp_path / "foreign", IDENTITY)
    assert (tmp_path / "foreign" / "file").read_text() == "mine"


def test_a_site_is_renewed_with_a_higher_generation_only_and_keeps_its_files(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "s").write_bytes(b"x")
    second = replace(IDENTITY, generation=2)
    FileSystemObjects.renew(folder, second)
    FileSystemObjects.renew(folder, second)
    FileSystemObjects.create(folder, second)
    assert files(folder) == ["_site.json", "s"]
    for other in (IDENTITY, replace(OTHER, generation=3)):
        with pytest.raises(FileExistsError):
            FileSystemObjects.renew(folder, other)
    (folder / "_site.json").write_bytes(b"{}")
    with pytest.raises(FileExistsError):
        FileSystemObjects.renew(folder, replace(IDENTITY, generation=3))
    FileSystemObjects.renew(tmp_path / "new", second)
    FileSystemObjects.create(tmp_path / "new", second)


async def test_a_site_of_another_generation_is_not_written_to(folder: Path, site: FileSystemObjects) -> None:
    await put(site, "s/x")
    FileSystemObjects.renew(folder, replace(IDENTITY, generation=2))
    with pytest.raises(SiteUnavailable, match="another was expected"):
        await site.identity()


async def test_a_missing_folder_is_a_site_that_is_down_and_is_not_made(tmp_path: Path) -> None:
    site = FileSystemObjects("a", tmp_path / "gone", IDENTITY)
    with pytest.raises(SiteUnavailable):
        await site.identity()
    with pytest.raises(SiteUnavailable):
        await put(site, "s/x")
    with pytest.raises(SiteUnavailable):
        await site.get("s/x")
    assert not (tmp_path / "gone").exists()
    await site.close()


async def test_a_folder_that_is_moved_away_and_comes_back_is_used_again(
    folder: Path, site: FileSystemObjects
) -> None:
    await put(site, "s/x")
    away = folder.rename(folder.with_name("away"))
    with pytest.raises(SiteUnavailable):
        await put(site, "s/y")
    with pytest.raises(SiteUnavailable):
        await site.get("s/x")
    with pytest.raises(SiteUnavailable):
        await site.head("s/never")
    assert not folder.exists()
    away.rename(folder)
    assert await site.get("s/x") == b"x"
    await put(site, "s/y")
    assert [found.key async for found in site.list()] == ["s/x", "s/y"]


async def test_another_folder_in_its_place_is_not_written_to(folder: Path, site: FileSystemObjects) -> None:
    await put(site, "s/x")
    away = folder.rename(folder.with_name("away"))
    FileSystemObjects.create(folder, OTHER)
    for attempt in (put(site, "s/y"), site.get("s/x"), site.identity()):
        with pytest.raises(SiteUnavailable):
            await attempt
    assert files(folder) == ["_site.json"]
    assert files(away) == ["_site.json", "s/x", "s/x.meta"]


async def test_a_damaged_or_missing_identity_is_a_site_that_is_down(
    folder: Path, site: FileSystemObjects
) -> None:
    await site.identity()
    for content in (b"", b"{}", b"[]", b"\xff"):
        (folder / "_site.json").write_bytes(content)
        with pytest.raises(SiteUnavailable):
            await site.identity()
    (folder / "_site.json").unlink()
    with pytest.raises(SiteUnavailable):
        await site.identity()


async def test_a_put_into_a_folder_that_is_moved_meanwhile_is_not_confirmed(
    folder: Path, site: FileSystemObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(site, "s/x")
    move_at_sync = iter([True])
    real = os.fsync

    def fsync(fd: int) -> None:
        if next(move_at_sync, False):
            folder.rename(folder.with_name("away"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SiteUnavailable):
        await put(site, "s/y")
    assert not folder.exists()


async def test_an_upload_into_a_folder_that_is_swapped_meanwhile_is_not_confirmed(
    folder: Path, site: FileSystemObjects
) -> None:
    upload = await site.upload("s/big", metadata={})
    await upload.write([b"abc"])
    folder.rename(folder.with_name("away"))
    shutil.copytree(folder.with_name("away"), folder)
    with pytest.raises(SiteUnavailable):
        await upload.write([b"def"])
    with pytest.raises(SiteUnavailable):
        await upload.complete()
    assert not (folder / "s").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
async def test_a_disk_that_takes_no_more_is_a_site_that_is_down_and_leaves_nothing(
    folder: Path, site: FileSystemObjects, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    await put(site, "s/x")
    for name in ("write", "fsync", "rename"):
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> int:
                raise OSError(number, os.strerror(number))

            patch.setattr(os, name, fail)
            with pytest.raises(SiteUnavailable, match=errno.errorcode[number]) as told:
                await put(site, "s/x", b"other")
            assert isinstance(told.value, SiteFull) == (number in (errno.ENOSPC, errno.EDQUOT))
        assert await site.get("s/x") == b"x"
        assert files(folder) == ["_site.json", "s/x", "s/x.meta"]


async def test_what_is_at_fault_with_one_object_is_no_fault_of_the_site(
    folder: Path, site: FileSystemObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "s/folder").mkdir(parents=True)
    (folder / "s/file").write_bytes(b"x")
    with pytest.raises(ObjectFault):
        await site.get("s/folder")
    with pytest.raises(ObjectFault):
        await put(site, "s/folder")
    with pytest.raises(ObjectFault):
        await put(site, "s/file/below")
    os.mkfifo(folder / "s/pipe")
    with pytest.raises(ObjectFault):
        await site.get("s/pipe")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "unreadable")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(ObjectFault):
        await site.get("s/file")


async def test_a_link_out_of_the_site_is_not_followed(
    tmp_path: Path, folder: Path, site: FileSystemObjects
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "s").mkdir()
    (folder / "s/link").symlink_to(tmp_path / "secret")
    with pytest.raises(ObjectFault):
        await site.get("s/link")


async def test_an_object_without_readable_metadata_is_shown_with_none(
    folder: Path, site: FileSystemObjects
) -> None:
    await put(site, "s/x")
    for content in (b"", b"[1]", b"\xff"):
        (folder / "s/x.meta").write_bytes(content)
        assert dict((await site.head("s/x")).metadata) == {}
    (folder / "s/x.meta").unlink()
    assert dict((await site.head("s/x")).metadata) == {}
    assert await site.get("s/x") == b"x"


async def test_the_object_and_the_way_to_it_are_synced_before_it_is_seen_and_its_name_after(
    folder: Path, site: FileSystemObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that makes it durable: both files, the folders above, then their names in their folder."""
    events: list[str] = []
    real_sync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().relative_to(folder.resolve())}")
        real_sync(fd)

    def rename(src: str, dst: str, **fds: int) -> None:
        events.append(f"rename {dst}")
        real_rename(src, dst, **fds)

    await site.identity()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    await put(site, "st/se/i/x.dcm")
    assert [event.partition(" ")[0] for event in events[:2]] == ["sync", "sync"]
    assert all("_incoming/" in event for event in events[:2])
    assert events[2:] == [
        "sync st/se",
        "sync st",
        "sync .",
        "rename x.dcm.meta",
        "rename x.dcm",
        "sync st/se/i",
    ]
    events.clear()
    await put(site, "st/se/j/x.dcm")
    assert events[2:] == ["sync st/se", "rename x.dcm.meta", "rename x.dcm", "sync st/se/j"]


async def test_leftovers_are_swept_when_they_are_old(folder: Path) -> None:
    old, young = folder / "_incoming/old", folder / "_incoming/young"
    for file in (old, young):
        file.write_bytes(b"left over")
    past = time.time() - root.ABANDONED_AFTER_S - 60
    os.utime(old, (past, past))
    site = FileSystemObjects("a", folder, IDENTITY)
    await site.identity()
    assert (old.exists(), young.exists()) == (False, True)
    await site.close()


async def test_what_is_still_written_to_is_not_swept(folder: Path, site: FileSystemObjects) -> None:
    upload = await site.upload("s/big", metadata={})
    await upload.write([b"abc"])
    (folder / "_incoming/old").write_bytes(b"left over")
    hour_ago = time.time() - 3600
    os.utime(folder / "_incoming/old", (hour_ago, hour_ago))
    assert await site.sweep(datetime.now(UTC) - timedelta(minutes=5)) == 1
    await upload.complete()
    assert await site.get("s/big") == b"abc"


async def test_room_is_what_the_file_system_has_left_for_us(folder: Path, site: FileSystemObjects) -> None:
    free_bytes = await site.free_bytes()
    assert free_bytes is not None
    assert free_bytes == pytest.approx(shutil.disk_usage(folder).free, rel=0.2)


async def test_folders_are_those_of_keys_only(folder: Path, site: FileSystemObjects) -> None:
    upload = await site.upload("_streams/u.dcm", metadata={})
    assert [name async for name in site.folders()] == []
    await upload.complete()
    assert [name async for name in site.folders()] == ["_streams"]


async def test_an_upload_nobody_finishes_leaves_no_file_and_no_handle(
    folder: Path, site: FileSystemObjects
) -> None:
    upload = await site.upload("s/big", metadata={})
    await upload.write([b"abc"])
    assert len(list((folder / "_incoming").iterdir())) == 1
    handles = len(list(Path("/proc/self/fd").iterdir()))
    del upload
    # A thread lets go of it.
    await until(lambda: not list((folder / "_incoming").iterdir()), "no file is left")
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) == handles - 1, "no handle is left")


async def test_a_disk_that_hangs_holds_up_a_bounded_number_of_calls_and_not_the_end(
    folder: Path, site: FileSystemObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.identity()
    hang, hanging = threading.Event(), threading.Event()
    real = os.pread

    def pread(fd: int, length: int, start: int) -> bytes:
        hanging.set()
        hang.wait()
        return real(fd, length, start)

    await put(site, "x")
    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(threads, "CLOSE_TIMEOUT_S", 0.01)
    limit = file_system.THREADS + file_system.QUEUE_LIMIT
    calls = [asyncio.create_task(site.get("x")) for _ in range(limit)]
    await asyncio.to_thread(hanging.wait)
    with pytest.raises(SiteUnavailable, match="waiting"):
        await site.get("x")
    await site.close()
    hang.set()
    assert set(await asyncio.gather(*calls)) == {b"x"}


async def test_calls_that_were_cancelled_do_not_count_for_ever(site: FileSystemObjects, folder: Path) -> None:
    await put(site, "x")
    for _ in range(3):
        calls = [asyncio.create_task(site.get("x")) for _ in range(file_system.QUEUE_LIMIT)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        while True:
            try:
                assert await site.get("x") == b"x"
                break
            except SiteUnavailable:
                await asyncio.sleep(0.001)


async def test_a_name_that_went_away_is_missing(folder: Path, site: FileSystemObjects) -> None:
    await put(site, "s/t/x")
    shutil.rmtree(folder / "s")
    with pytest.raises(ObjectMissing):
        await site.get("s/t/x")
    await put(site, "s/t/x")
    assert await site.get("s/t/x") == b"x"
