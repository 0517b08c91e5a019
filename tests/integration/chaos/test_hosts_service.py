from __future__ import annotations

import asyncio
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.hosts import namespace
from chaos.hosts.namespace import Namespace
from chaos.hosts.privileges import Privileges
from chaos.hosts.service import Service
from chaos.hosts.unit import Unit
from tests.waiting import soon

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def python(code: str, **changes: object) -> Unit:
    unit = Unit(
        name="sleeper",
        command=(sys.executable, "-S", "-c", code),
        before=(),
        environment={},
        privileges=Privileges(),
        stop_signal=signal.SIGTERM,
        stop_timeout_s=5.0,
        restart_after_s=0.05,
        stays_ended=frozenset({10}),
    )
    return replace(unit, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def possible() -> None:
    if (why := namespace.why_not()) is not None:
        pytest.skip(why)


@pytest.fixture
async def a_namespace(possible: None) -> AsyncIterator[Namespace]:
    made = Namespace(f"atria-{os.getpid()}-service")
    made.make()
    try:
        yield made
    finally:
        made.remove()


@asynccontextmanager
async def started(unit: Unit, where: Namespace, log: Path) -> AsyncIterator[Service]:
    service = Service(unit, where, log, {})
    await service.start()
    try:
        yield service
    finally:
        await service.kill()


async def until(holds: Callable[[], bool]) -> None:
    async with soon("the condition holds"):
        while not holds():  # noqa: ASYNC110  another process's doing raises no event here
            await asyncio.sleep(0.01)


async def test_it_runs_in_its_namespace(a_namespace: Namespace, tmp_path: Path) -> None:
    async with started(python(SLEEP), a_namespace, tmp_path / "log") as service:
        assert service.pid is not None
        there = Path(f"/run/netns/{a_namespace.name}").stat().st_ino
        assert Path(f"/proc/{service.pid}/ns/net").stat().st_ino == there
        assert Path("/proc/self/ns/net").stat().st_ino != there


async def test_what_was_killed_is_started_again(a_namespace: Namespace, tmp_path: Path) -> None:
    async with started(python(SLEEP), a_namespace, tmp_path / "log") as service:
        first = service.pid
        service.send(signal.SIGKILL)
        await until(lambda: service.pid not in (None, first))


async def test_what_asks_to_stay_ended_stays_so(a_namespace: Namespace, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import sys; print('once', flush=True); sys.exit(10)"
    async with started(python(code), a_namespace, log) as service:
        await until(lambda: service.pid is None)
        await asyncio.sleep(0.2)
        assert service.pid is None
        assert log.read_text() == "once\n"
        await service.start()
        await until(lambda: log.read_text() == "once\nonce\n")


async def test_what_is_stopped_stays_so_and_had_its_time(a_namespace: Namespace, tmp_path: Path) -> None:
    code = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); print('up', flush=True)\n"
        "signal.sigwait([signal.SIGTERM]); print('ended well', flush=True)"
    )
    log = tmp_path / "log"
    async with started(python(code), a_namespace, log) as service:
        await until(lambda: "up" in log.read_text())
        await service.stop()
        assert service.pid is None
        assert "ended well" in log.read_text()


async def test_what_is_frozen_can_be_ended(a_namespace: Namespace, tmp_path: Path) -> None:
    async with started(python(SLEEP), a_namespace, tmp_path / "log") as service:
        pid = service.pid
        service.send(signal.SIGSTOP)
        assert service.pid == pid
        await service.kill()
        assert service.pid is None


async def test_it_does_not_start_before_what_comes_before_it_has_succeeded(
    a_namespace: Namespace, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    unit = python(SLEEP, before=(("/usr/bin/test", "-e", str(gate)),))
    async with started(unit, a_namespace, log) as service:
        assert service.pid is None
        gate.touch()
        await until(lambda: "up" in log.read_text())


def status_of(pid: int | None) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def test_it_may_what_its_unit_says_and_nothing_else(a_namespace: Namespace, tmp_path: Path) -> None:
    may = frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW"})
    privileges = Privileges("daemon", may, may, no_new=True, umask=0o027)
    log = tmp_path / "log"
    async with started(python(SLEEP, privileges=privileges), a_namespace, log) as service:
        await until(lambda: "up" in log.read_text())
        found = status_of(service.pid)
    user = pwd.getpwnam("daemon")
    assert found["Uid"].split() == 4 * [str(user.pw_uid)]
    assert found["Gid"].split() == 4 * [str(user.pw_gid)]
    both = (1 << 12) | (1 << 13)  # capability.h: CAP_NET_ADMIN, CAP_NET_RAW
    assert {int(found[key], 16) for key in ("CapEff", "CapPrm", "CapAmb", "CapBnd")} == {both}
    assert (found["NoNewPrivs"], found["Umask"]) == ("1", "0027")


async def test_who_is_not_root_dies_with_us_too(a_namespace: Namespace, tmp_path: Path) -> None:
    """The kernel forgets who a process is to die with when it becomes another user."""
    code = (
        "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print('by', n.value)"
    )
    log = tmp_path / "log"
    async with started(python(code, privileges=Privileges("daemon")), a_namespace, log):
        await until(lambda: "by 9" in log.read_text())
