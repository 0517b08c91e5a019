"""A process that is stopped, and wakes when its lease is over."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.coordination.etcd import EtcdCoordination
from cluster.settings import Etcd
from tests.etcd import EtcdCluster

LEASE_S = 2


@asynccontextmanager
async def sleeper(settings: Etcd) -> AsyncIterator[Process]:
    command = (
        *(sys.executable, "-X", "dev", "-W", "error", "-m", "tests.integration.coordination.sleeper"),
        *(",".join(settings.endpoints), settings.prefix),
    )
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: Process) -> tuple[float, bool]:
    """When it asked next whether it leads, on the clock of this host, and what it was told."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        moment, holds = (await process.stdout.readline()).split()
    return float(moment), holds == b"True"


async def test_who_slept_past_its_lease_knows_it_when_it_wakes(etcd: EtcdCluster) -> None:
    settings = etcd.settings()
    store = EtcdCoordination(settings)
    async with sleeper(settings) as process:
        while not (await said(process))[1]:
            pass
        process.send_signal(signal.SIGSTOP)
        lease = await store.grant(30)
        async with asyncio.timeout(LEASE_S + 5):
            while (term := await store.campaign("leader", b"other", lease)) is None:  # noqa: ASYNC110  etcd's clock
                await asyncio.sleep(0.05)
        won_at = time.monotonic()
        process.send_signal(signal.SIGCONT)
        moment = 0.0
        while moment < won_at + LEASE_S:
            moment, holds = await said(process)
            assert moment < won_at or not holds
        await store.resign(term)
        while not (await said(process))[1]:
            pass
    await store.close()


async def test_a_process_ends_without_a_word_of_warning(etcd: EtcdCluster) -> None:
    """On uvloop, with every warning an error, and with a member lost on the way."""
    async with sleeper(etcd.settings()) as process:
        while not (await said(process))[1]:
            pass
        await etcd.members[0].kill()
        until = time.monotonic() + LEASE_S
        while (await said(process))[0] < until:
            pass
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
    lines = [line for line in errors.decode().splitlines() if "election." not in line]
    assert (process.returncode, lines) == (0, [])
