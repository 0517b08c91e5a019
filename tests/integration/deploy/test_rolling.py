"""Workers drained, restarted, started and killed behind a running `atria up`, as their callers notice it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.coordination.registry import Member, Registry
from cluster.dicom import client
from cluster.dicom.association import Association
from cluster.dicom.faults import AssociationEnded
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.requestor import AssociationRejected, ProposedContext
from cluster.dicom.transfer_syntaxes import SERVICE_ORDER
from cluster.dicom.uids import VERIFICATION
from deploy import compose
from deploy.client.peer import Peer, parse_address
from deploy.overrides import Overrides
from tests.integration.deploy.atria import Up, atria, up
from tests.integration.deploy.test_killed_workers import CT, instances
from tests.unit.header.encoding import EXPLICIT
from tests.waiting import soon, until

CONTEXTS = [ProposedContext(CT, (EXPLICIT,)), ProposedContext(VERIFICATION, SERVICE_ORDER)]
SHORT_SENDERS = 3
LONG = "LONG"
LONG_GOES_ON_S = 2.0
PAUSE_S = 0.05
"""After each instance: the cluster is to be busy, not to be tried to its limits."""
AT_ONCE_S = 5.0
"""Far less than any time limit, also where the machine has much else to do."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("rolling") / "data", "--workers=3") as running:
        yield running


def peer(cluster: Up, calling_ae: str = "ROLLING") -> Peer:
    return Peer(*parse_address(cluster.address), "ATRIA", calling_ae, UpperLayerLimits())


def worker(cluster: Up, *arguments: object) -> str:
    """Run a sub-command of `atria worker`; it must succeed."""
    ended = atria("worker", arguments[0], "--data", cluster.data, *arguments[1:])
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


async def workers(cluster: Up) -> dict[str, Member]:
    """Return those that run, by name."""
    settings = Overrides(data=cluster.data).settings()
    return {member.name: member for member in await compose.members(settings, "worker")}


@dataclass
class Traffic:
    """What was sent meanwhile, and what did not go as it should."""

    stored: int = 0
    associations: int = 0
    faults: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    long_over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_enough(self) -> bool:
        return self.stored > 20 * SHORT_SENDERS and self.associations > 5 * SHORT_SENDERS

    async def send_short_ones(self, peer: Peer, sender: int) -> None:
        """Open one association after another, each for a few instances."""
        waiting = small_instances(sender)
        while not self.over.is_set():
            await self._send(peer, itertools.islice(waiting, 4))

    async def send_throughout(self, peer: Peer) -> None:
        """Send in one association, until it has gone on for a while behind a worker that drains."""
        await self._send(peer, itertools.takewhile(lambda _: not self.long_over.is_set(), small_instances(9)))

    async def watch_the_long_one(self, registry: Registry) -> None:
        """Wait until its worker drains, and a while longer."""
        async with aclosing(registry.watch()) as memberships:
            async for members in memberships:
                if any(one.draining and has(one, LONG) for one in members):
                    break
        await asyncio.sleep(LONG_GOES_ON_S)
        self.long_over.set()

    async def _send(self, peer: Peer, waiting: Iterable[tuple[str, bytes]]) -> None:
        """Send in one association; nothing is tried again."""
        try:
            async with await peer.connect(CONTEXTS) as association:
                self.associations += 1
                for sop, data_set in waiting:
                    await self._store(association, sop, data_set)
                    await asyncio.sleep(PAUSE_S)
        except (AssociationEnded, AssociationRejected, OSError, AssertionError) as error:
            self.faults.append(repr(error))

    async def _store(self, association: Association, sop: str, data_set: bytes) -> None:
        answer = await client.store(
            association,
            sop_class_uid=CT,
            sop_instance_uid=sop,
            transfer_syntax_uid=EXPLICIT,
            data_set=[data_set],
        )
        assert answer.status == 0, f"{answer.status:04X} {answer.error_comment}"
        self.stored += 1


def small_instances(sender: int) -> Iterator[tuple[str, bytes]]:
    return (one for one in instances(sender, random.Random(sender)) if len(one[1]) < 100_000)


async def test_all_workers_are_restarted_under_load_and_nothing_is_aborted_and_nothing_fails(
    cluster: Up,
) -> None:
    before = await workers(cluster)
    traffic = Traffic()
    registry = compose.registry(Overrides(data=cluster.data).settings())
    async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.send_throughout(peer(cluster, LONG)))
        tasks.create_task(traffic.watch_the_long_one(registry))
        for sender in range(1, 1 + SHORT_SENDERS):
            tasks.create_task(traffic.send_short_ones(peer(cluster), sender))
        await asyncio.to_thread(worker, cluster, "restart", "--all")
        # A machine that is busy may take its time over what is enough to go by.
        await until(lambda: traffic.is_enough or bool(traffic.faults), seen=lambda: traffic)
        traffic.over.set()
    assert traffic.long_over.is_set()
    assert traffic.faults == []
    after = await workers(cluster)
    assert after.keys() == before.keys()
    assert all(after[name].pid != before[name].pid for name in before)


async def test_a_drained_worker_stays_ended_until_it_is_started(cluster: Up) -> None:
    worker(cluster, "drain", "worker-2", "--wait")
    assert sorted(await workers(cluster)) == ["worker-1", "worker-3"]
    await asyncio.sleep(2)  # longer than one that has died needs to be back
    assert sorted(await workers(cluster)) == ["worker-1", "worker-3"]
    again = atria("worker", "drain", "worker-2", "--data", cluster.data)
    assert (again.returncode, "worker-1, worker-3" in again.stderr) == (2, True)
    worker(cluster, "start", "worker-2")
    assert sorted(await workers(cluster)) == ["worker-1", "worker-2", "worker-3"]
    running = atria("worker", "start", "worker-2", "--data", cluster.data)
    assert (running.returncode, "runs already" in running.stderr) == (2, True)


async def test_scripts_are_told_of_a_worker_as_the_list_tells_of_it(cluster: Up) -> None:
    (listed,) = [one for one in json.loads(worker(cluster, "list", "--json")) if one["name"] == "worker-3"]
    changing = {"pid", "http", "dicom", "started_at"}
    drained = json.loads(worker(cluster, "drain", "worker-3", "--wait", "--json"))
    assert drained == {**listed, "draining": True, "ended": True}
    started = json.loads(worker(cluster, "start", "worker-3", "--json"))
    assert {key for key in listed if started[key] != listed[key]} <= changing
    (restarted,) = json.loads(worker(cluster, "restart", "worker-3", "--json"))
    assert restarted["former_pid"] == started["pid"] != restarted["pid"]
    assert {key for key in listed if restarted[key] != listed[key]} <= changing


async def test_a_worker_that_is_named_twice_is_restarted_once(cluster: Up) -> None:
    (line,) = worker(cluster, "restart", "worker-2", "worker-2").splitlines()
    assert f"{(await workers(cluster))['worker-2'].pid} is ready" in line


def test_the_list_says_of_each_what_it_has_and_takes(cluster: Up) -> None:
    entries = json.loads(worker(cluster, "list", "--json"))
    assert [entry["name"] for entry in entries] == ["worker-1", "worker-2", "worker-3"]
    assert all((one["draining"], one["capacity"], one["labels"]) == (False, 200, {}) for one in entries)
    assert "worker-1   serving" in worker(cluster, "list")


async def test_a_worker_that_nobody_keeps_cannot_be_started(cluster: Up) -> None:
    refused = atria("worker", "start", "worker-9", "--data", cluster.data)
    assert refused.returncode == 2
    assert "systemctl start" in refused.stderr
    assert list((cluster.data / "requests").iterdir()) == [], "the request was taken back"


@pytest.mark.parametrize(
    "arguments",
    [("restart",), ("restart", "--all", "worker-1"), ("restart", "worker-9"), ("drain", "worker-9")],
)
async def test_what_cannot_be_done_is_one_clear_line(cluster: Up, arguments: tuple[str, ...]) -> None:
    refused = atria("worker", *arguments, "--data", cluster.data)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def test_a_drained_worker_does_not_keep_the_cluster_from_ending(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--workers=1") as running:
        worker(running, "drain", "worker-1", "--wait")
        assert running.end() == 0


async def kill_who_serves(cluster: Up, calling_ae: str) -> None:
    """Kill the worker that has this caller's association."""
    async with soon(f"a worker has the association of {calling_ae}"):
        while not (found := await serving(cluster, calling_ae)):  # noqa: ASYNC110  another process
            await asyncio.sleep(0.05)
    os.kill(found[0].pid, signal.SIGKILL)


async def serving(cluster: Up, calling_ae: str) -> list[Member]:
    return [one for one in (await workers(cluster)).values() if has(one, calling_ae)]


def has(worker: Member, calling_ae: str) -> bool:
    return any(share.calling_ae == calling_ae for share in worker.load.shares)


async def test_a_caller_between_messages_is_aborted_at_once_when_its_worker_dies(cluster: Up) -> None:
    association = await peer(cluster, "BETWEEN").connect(CONTEXTS)
    assert await client.echo(association) == 0
    await kill_who_serves(cluster, "BETWEEN")
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(AssociationEnded) as ended:
            await association.receive()
        assert ended.value.how == "aborted"
        await association.closed()


async def test_a_caller_in_the_middle_of_a_message_is_told_at_once_when_its_worker_dies(cluster: Up) -> None:
    killed = asyncio.Event()

    async def halting() -> Any:
        yield bytes(100_000)
        await killed.wait()
        while True:
            yield bytes(100_000)
            await asyncio.sleep(0)

    association = await peer(cluster, "WITHIN").connect(CONTEXTS)
    storing = asyncio.create_task(
        client.store(
            association,
            sop_class_uid=CT,
            sop_instance_uid="1.2.3.4.5",
            transfer_syntax_uid=EXPLICIT,
            data_set=halting(),
        )
    )
    await kill_who_serves(cluster, "WITHIN")
    killed.set()
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises(AssociationEnded) as ended:
            await storing
        assert ended.value.how in ("aborted", "lost")
        await association.closed()
