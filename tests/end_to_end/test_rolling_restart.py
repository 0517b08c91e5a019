"""All workers of several hosts are restarted, one after another, from one of these hosts, under load."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from chaos.hosts.addresses import SITES
from chaos.hosts.cluster import Running
from chaos.hosts.description import ATRIA
from chaos.hosts.observing import observed
from chaos.hosts.sender import Sent, send_throughout
from tests.end_to_end.limits import PATIENCE_S

pytestmark = [pytest.mark.hosts, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

ASSOCIATIONS_S = (2.0, 2.3, 2.6, 2.9, 3.2, 3.5)
"""How long each of those lasts that are sent side by side: some of a worker go on when its turn comes."""
PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    pid: int
    is_draining: bool


async def test_a_rolling_restart_aborts_no_association_and_fails_no_store(running: Running) -> None:
    await running.until(running.is_ready, "workers that are well")
    before = await workers(running)
    restarted = asyncio.Event()
    async with observed(running, timeout_s=PATIENCE_S) as seen, asyncio.TaskGroup() as group:
        senders = [group.create_task(keep_sending(running, each_s, restarted)) for each_s in ASSOCIATIONS_S]
        try:
            await restart_all(running)
        finally:
            restarted.set()
    after = await workers(running)

    assert {one.name for one in after} == {one.name for one in before}
    assert {one.pid for one in after}.isdisjoint(one.pid for one in before)
    assert not [one for one in after if one.is_draining]
    assert any(had_associations(running, host) for host in SITES)
    sent = [one for sender in senders for one in sender.result()]
    assert [one.fault for one in sent if one.fault is not None] == []
    assert seen.probed.faults == []


async def restart_all(running: Running) -> None:
    """Do as an operator does, at a host that has no worker of its own."""
    done = await run(running, "lb1", "worker", "restart", "--all")
    assert done.count(" is back") == len(SITES), done


async def workers(running: Running) -> list[Worker]:
    listed = json.loads(await run(running, "lb1", "worker", "list", "--json"))
    return [Worker(one["name"], one["pid"], one["draining"]) for one in listed]


async def run(running: Running, host: str, *command: str) -> str:
    """Run a command of Atria on a host, and return what it printed."""
    where = running.hosts[host]
    done = await where.run(*ATRIA, *command, f"--config={where.config}", timeout_s=150)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


async def keep_sending(running: Running, each_s: float, end: asyncio.Event) -> list[Sent]:
    """Send over one association after the other."""
    found: list[Sent] = []
    while not end.is_set():
        found.append(await running.client.run(send_throughout(running.service, each_s, pause_s=PAUSE_S)))
    return found


def had_associations(running: Running, host: str) -> bool:
    """Whether the worker of a host had associations when it was to drain last."""
    lines = running.hosts[host]["worker@1"].log_file.read_text("utf-8").splitlines()
    drained = [json.loads(line) for line in lines if '"worker.draining"' in line]
    return bool(drained) and drained[-1]["associations"] > 0
