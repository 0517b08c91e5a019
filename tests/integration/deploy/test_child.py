from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import structlog

from cluster.coordination.folder import FolderRegistry
from cluster.coordination.registry import Member
from deploy.child import Child, atria
from deploy.errors import UserError
from deploy.process import STAYS_ENDED
from tests.integration.deploy.atria import is_alive
from tests.waiting import soon


def balancer(tmp_path: Path) -> Child:
    command = atria("balancer", f"--data={tmp_path}", "--dicom-port=0", "--http-port=0")
    return Child("balancer", lambda: command, tmp_path / "balancer.log")


async def announced(tmp_path: Path, other_than: int = 0) -> Member:
    (tmp_path / "members").mkdir(exist_ok=True)
    async with soon("the balancer is announced", seen=(tmp_path / "balancer.log").read_text):
        async for members in FolderRegistry(tmp_path / "members").watch():
            for member in members:
                if member.pid != other_than:
                    return member
    raise AssertionError


async def test_a_child_that_cannot_start_ends_at_once_with_its_own_words(tmp_path: Path) -> None:
    child = Child("status", lambda: atria("status", f"--data={tmp_path}"), tmp_path / "status.log")
    with pytest.raises(UserError, match=f"^there is no cluster in {tmp_path}"):
        await child.keep()


async def test_a_child_that_keeps_dying_at_start_is_given_up(tmp_path: Path) -> None:
    child = Child("demo", lambda: atria("--help"), tmp_path / "demo.log")
    with pytest.raises(UserError, match=r"demo cannot be started \(exit code 0\)"):
        await child.keep()


async def test_a_child_that_the_host_cannot_start_is_told_in_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(UserError, match=f"^w cannot be started: {missing}: No such file or directory$"):
        await Child("w", lambda: [str(missing)], tmp_path / "w.log").keep()
    with pytest.raises(UserError, match=f"^w cannot be started: {missing}/w.log: No such file or directory$"):
        await Child("w", lambda: ["true"], missing / "w.log").keep()


async def test_a_child_that_the_host_cannot_start_again_is_tried_until_it_can(tmp_path: Path) -> None:
    logs, started = tmp_path / "logs", tmp_path / "started"
    child = Child("w", lambda: ["sh", "-c", f"touch {started}; sleep 60"], logs / "w.log")
    child.has_started()
    with structlog.testing.capture_logs() as lines:
        keeping = asyncio.create_task(child.keep())
        async with asyncio.timeout(20):
            while not any(line["event"] == "process.not_started" for line in lines):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            logs.mkdir()
            while not started.exists():  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.05)
    await child.stop(limit_s=20)
    await keeping


async def test_a_child_that_was_ready_once_is_started_again_and_stopped_gently(tmp_path: Path) -> None:
    child = balancer(tmp_path)
    keeping = asyncio.create_task(child.keep())
    first = await announced(tmp_path)
    child.has_started()
    os.kill(first.pid, signal.SIGKILL)
    second = await announced(tmp_path, other_than=first.pid)
    await child.stop(limit_s=60)
    await keeping
    assert not is_alive(second.pid)


async def test_a_child_that_hangs_is_killed_at_the_limit(tmp_path: Path) -> None:
    child = balancer(tmp_path)
    keeping = asyncio.create_task(child.keep())
    member = await announced(tmp_path)
    os.kill(member.pid, signal.SIGSTOP)
    await child.stop(limit_s=0.2)
    await keeping
    assert not is_alive(member.pid)


async def test_cancelling_who_keeps_it_ends_it(tmp_path: Path) -> None:
    child = balancer(tmp_path)
    keeping = asyncio.create_task(child.keep())
    member = await announced(tmp_path)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert not is_alive(member.pid)


LIVES = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); sys.exit(int(sys.argv[2]))"


def short_lived(tmp_path: Path, code: int) -> Child:
    """Return a child that notes its start in a file, and ends at once."""
    command = [sys.executable, "-S", "-c", LIVES, str(tmp_path / "lives"), str(code)]
    return Child("short", lambda: command, tmp_path / "short.log")


async def lives(tmp_path: Path, number: int) -> list[str]:
    """Wait until it was started so often."""
    noted: list[str] = []
    async with soon(f"it was started {number} times", seen=lambda: noted):
        while True:
            noted = (tmp_path / "lives").read_text().split() if (tmp_path / "lives").exists() else []
            if len(noted) >= number:
                return noted
            await asyncio.sleep(0.02)


async def test_a_child_that_is_to_stay_ended_is_started_when_it_is_wanted(tmp_path: Path) -> None:
    child = short_lived(tmp_path, STAYS_ENDED)
    child.has_started()
    keeping = asyncio.create_task(child.keep())
    await lives(tmp_path, 1)
    await asyncio.sleep(1)  # longer than one that has died waits for its restart
    assert len(await lives(tmp_path, 1)) == 1
    child.start_again()
    await lives(tmp_path, 2)
    await child.stop(limit_s=60)
    await keeping


async def test_a_child_that_is_wanted_while_it_still_ends_is_started(tmp_path: Path) -> None:
    child = short_lived(tmp_path, STAYS_ENDED)
    child.has_started()
    child.start_again()
    keeping = asyncio.create_task(child.keep())
    await lives(tmp_path, 2)
    await asyncio.sleep(0.5)
    assert len(await lives(tmp_path, 2)) == 2  # wanted once, started once
    await child.stop(limit_s=60)
    await keeping


async def test_a_child_that_was_asked_to_end_is_back_at_once_each_time(tmp_path: Path) -> None:
    child = short_lived(tmp_path, 0)
    child.has_started()
    keeping = asyncio.create_task(child.keep())
    with structlog.testing.capture_logs() as logs:
        await lives(tmp_path, 4)
    await child.stop(limit_s=60)
    await keeping
    assert {(entry["event"], entry["again_in_s"]) for entry in logs} == {("process.restarts", 0.2)}


async def test_a_child_that_dies_again_and_again_waits_longer_each_time(tmp_path: Path) -> None:
    child = short_lived(tmp_path, 1)
    child.has_started()
    keeping = asyncio.create_task(child.keep())
    with structlog.testing.capture_logs() as logs:
        await lives(tmp_path, 3)
    await child.stop(limit_s=60)
    await keeping
    assert [(entry["event"], entry["again_in_s"]) for entry in logs][:2] == [
        ("process.died", 0.2),
        ("process.died", 0.4),
    ]
