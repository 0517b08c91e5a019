from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.coordination.folder import UNFINISHED_KEPT_S, FolderRegistry
from cluster.coordination.registry import Address, Member, RegistryUnavailable

ANNOUNCER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from cluster.coordination.folder import FolderRegistry
from cluster.coordination.registry import Address, Member

async def main():
    registry = FolderRegistry(Path(sys.argv[1]))
    member = Member("worker", "other", Address("127.0.0.1", 1), 1, "0", datetime.now(UTC))
    announcement = await registry.announce(member)
    print("announced", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def member(name: str = "worker-1", version: str = "0") -> Member:
    return Member("worker", name, Address("127.0.0.1", 1), 1, version, datetime(2024, 1, 1, tzinfo=UTC))


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", ANNOUNCER, folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"announced\n"
        yield process


async def names(registry: FolderRegistry) -> list[str]:
    return [one.name for one in await registry.members()]


async def test_a_killed_process_is_no_member_and_its_file_is_swept(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    await registry.announce(member("here"))
    with other_process(tmp_path) as process:
        async with aclosing(registry.watch()) as changes, asyncio.timeout(5):
            assert [one.name for one in await anext(changes)] == ["here", "other"]
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert [one.name for one in await anext(changes)] == ["here"]
    assert len(files(tmp_path)) == 1


async def test_a_dead_file_is_swept_by_any_number_who_look(tmp_path: Path) -> None:
    announcement = await FolderRegistry(tmp_path).announce(member())
    (file,) = files(tmp_path)
    dead = tmp_path / "worker.dead.1-0.1.json"
    dead.write_bytes(file.read_bytes())
    registries = [FolderRegistry(tmp_path) for _ in range(3)]
    assert [await names(registry) for registry in registries] == [["worker-1"]] * 3
    assert not dead.exists()
    await announcement.withdraw()


async def test_looking_at_a_living_file_does_not_hide_it_from_others(tmp_path: Path) -> None:
    await FolderRegistry(tmp_path).announce(member())
    registry = FolderRegistry(tmp_path)
    seen: list[bool] = []

    def look() -> None:
        other = FolderRegistry(tmp_path)
        seen.extend(bool(asyncio.run(other.members())) for _ in range(50))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert await names(registry) == ["worker-1"]
    assert len(seen) == 200
    assert all(seen)


async def test_there_is_no_moment_without_it_while_it_is_updated(tmp_path: Path) -> None:
    announcement = await FolderRegistry(tmp_path).announce(member())
    done = threading.Event()
    looks: list[int] = []

    def look() -> None:
        registry = FolderRegistry(tmp_path)
        while not done.is_set():
            looks.append(len(asyncio.run(registry.members())))

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(300):
        await announcement.update(member(version=str(number)))
        await asyncio.sleep(0)
    done.set()
    await asyncio.to_thread(watcher.join)
    assert set(looks) == {1}
    assert [one.version for one in await FolderRegistry(tmp_path).members()] == ["299"]
    assert len(files(tmp_path)) == 1


async def test_a_file_that_cannot_be_read_is_no_member_and_harms_no_other(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    kept = [await registry.announce(member(name)) for name in ("broken", "well")]
    broken, _ = files(tmp_path)
    for content in (b"", b"{", b"[]", b'{"kind": "worker"}', b"\xff"):
        broken.write_bytes(content)
        assert await names(FolderRegistry(tmp_path)) == ["well"]
    assert broken.exists()
    assert len(kept) == 2


async def test_an_unfinished_file_is_left_until_its_writer_must_be_dead(tmp_path: Path) -> None:
    unfinished = tmp_path / "worker.x.1-0.1.unfinished"
    unfinished.touch()
    registry = FolderRegistry(tmp_path)
    assert await registry.members() == []
    assert unfinished.exists()
    long_ago = time.time() - UNFINISHED_KEPT_S - 1
    os.utime(unfinished, (long_ago, long_ago))
    assert await registry.members() == []
    assert not unfinished.exists()


async def test_looking_makes_no_folder(tmp_path: Path) -> None:
    assert await FolderRegistry(tmp_path / "members").members() == []
    assert not (tmp_path / "members").exists()


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnavailable, match=r"file/members.*Not a directory"):
        await FolderRegistry(tmp_path / "file" / "members").announce(member())
    with pytest.raises(RegistryUnavailable, match="Not a directory"):
        await FolderRegistry(tmp_path / "file").members()


async def test_a_watcher_keeps_what_it_knew_while_the_folder_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "members"
    registry = FolderRegistry(folder)
    await registry.announce(member("a"))
    async with aclosing(registry.watch()) as changes, asyncio.timeout(5):
        assert [one.name for one in await anext(changes)] == ["a"]
        folder.rename(tmp_path / "away")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(changes)
