"""Balancers on hosts of their own, with a service address: callers notice as little as may be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests import tools
from tests.certificates import Authority
from tests.integration.address.network import PORT, Host, Network, missing, network
from tests.integration.balancer.world import A_ASSOCIATE_AC, Caller, pdu
from tests.waiting import soon

LEASE_S = 3.0
ENOUGH = 20
"""Messages of an association that goes on meanwhile."""


@dataclass
class Place:
    """Two hosts with a balancer, one with etcd and a worker, and one that calls."""

    net: Network
    folder: Path
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, name: str, host: Host, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", host.namespace, *command), stdout=log, stderr=log
            )

    def signal(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    async def end(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()

    def holders(self) -> list[str]:
        """Who has the address on an interface that answers for it."""
        hosts = {"lb1": self.net.hosts[0], "lb2": self.net.hosts[1]}
        return [name for name, host in hosts.items() if str(self.net.service) in host.addresses()]

    async def held(self, by: str | None = None, within_s: float = 40.0) -> str:
        """Wait until the address is somewhere, or at a certain one, and only there; return where."""
        async with soon(f"the address is held by {by or 'one'}", seen=self.holders, within_s=within_s):
            while len(found := self.holders()) != 1 or found[0] != (by or found[0]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found[0]

    async def command(self, host: Host, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", host.namespace, *atria("balancer", *arguments)),
            *("--config", str(self.folder / "lb1.toml")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()


def atria(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "deploy.command.main", *arguments)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    if reason := missing():
        pytest.skip(reason)
    etcd = tools.etcd()
    if etcd is None:
        pytest.skip("needs etcd (Debian package etcd-server)")
    authority = Authority(tmp_path)
    with network(4) as net:
        found = Place(net, tmp_path)
        url = f"http://{net.hosts[2].address}"
        try:
            await found.start(
                "etcd",
                net.hosts[2],
                *(str(etcd), "--data-dir", str(tmp_path / "etcd"), "--unsafe-no-fsync"),
                *("--listen-client-urls", f"{url}:2379", "--advertise-client-urls", f"{url}:2379"),
                *("--listen-peer-urls", f"{url}:2380", "--initial-advertise-peer-urls", f"{url}:2380"),
                *("--initial-cluster", f"default={url}:2380"),
            )
            for name, host in zip(("lb1", "lb2", "worker"), net.hosts, strict=True):
                config(tmp_path, name, host, net, authority, f"{url}:2379")
            at = str(net.hosts[2].address)
            module = "tests.integration.leadership.worker"
            await found.start(
                "worker", net.hosts[2], sys.executable, "-m", module, str(tmp_path / "worker.toml"), at
            )
            for name, host in zip(("lb1", "lb2"), net.hosts, strict=False):
                arguments = ("--config", str(tmp_path / f"{name}.toml"), "--name", name)
                await found.start(name, host, *atria("balancer", *arguments))
            yield found
        finally:
            await found.end()


def config(folder: Path, name: str, host: Host, net: Network, authority: Authority, etcd: str) -> None:
    link = authority.link(name)
    (folder / f"{name}.toml").write_text(
        f'data_folder = "{folder / name}"\ndrain_timeout_s = 30.0\n'
        f'[dicom]\nhost = "{host.address}"\nport = {PORT}\n[http]\nhost = "{host.address}"\n'
        f'[etcd]\nendpoints = ["{etcd}"]\n'
        f'[service]\naddress = "{net.service}"\ninterface = "eth0"\n'
        f'[link]\nhost = "{host.address}"\ncertificate_file = "{link.certificate_file}"\n'
        f'key_file = "{link.key_file}"\nca_file = "{link.ca_file}"\n'
    )


def status(host: Host) -> dict[str, Any]:
    """Return what a balancer's status page says of who leads; nothing where there is no page yet."""
    page = HTTPConnection(str(host.address), 8112, timeout=2)
    try:
        host.inside(page.connect)
        page.request("GET", "/status")
        return json.loads(page.getresponse().read())["leadership"]  # type: ignore[no-any-return]
    except OSError:
        return {}
    finally:
        page.close()


async def ready(place: Place) -> tuple[str, str]:
    """Wait until one leads, and the other stands by in the list; return their names in that order."""
    leader = await place.held()
    names = ("lb1", "lb2")
    said: dict[str, dict[str, Any]] = {}
    async with soon("one leads, and the other stands by", seen=lambda: said):
        while True:
            said = dict(zip(names, map(status, place.net.hosts), strict=False))
            other = names[1 - names.index(leader)]
            roles = {name: one.get("role") for name, one in said.items()}
            if roles == {leader: "leading", other: "standby"} and len(said[other]["balancers"]) == 2:
                return leader, other
            await asyncio.sleep(0.05)


async def call(place: Place) -> Caller:
    connection = await place.net.connect()
    reader, writer = await asyncio.open_connection(sock=connection)
    caller = Caller(reader, writer)
    assert await caller.associate() == A_ASSOCIATE_AC
    return caller


async def talk(caller: Caller, until: Callable[[], bool]) -> int:
    """Send throughout, and release in the end; return how many messages went there and back.

    There are to be so many that it counts, however long a busy machine takes over them.
    """
    data = pdu(4, bytes(2000))
    sent = 0
    while sent <= ENOUGH or not until():
        caller.writer.write(data)
        assert await caller.read_pdu() == data
        sent += 1
        await asyncio.sleep(0.02)
    await caller.release()
    caller.writer.close()
    return sent


async def test_a_hand_over_interrupts_no_association_and_refuses_none(place: Place) -> None:
    leader, other = await ready(place)
    over = False
    longest = 0.0
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = [await call(place) for _ in range(3)]
        talking = [tasks.create_task(talk(caller, lambda: over)) for caller in running]

        async def call_again() -> None:
            nonlocal longest
            while not over:
                began = time.monotonic()
                caller = await call(place)
                await caller.release()
                caller.writer.close()
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.05)

        tasks.create_task(call_again())
        await asyncio.sleep(0.5)
        for to in (other, leader):
            assert await place.command(place.net.hosts[0], "hand-over", "--to", to) == (0, f"{to} leads.\n")
            assert place.holders() == [to]
            await asyncio.sleep(1)
        over = True
    assert all(task.result() > ENOUGH for task in talking)
    assert longest < LEASE_S, "who calls waited for as long as where nothing is handed over"


async def test_the_leader_that_is_told_to_end_serves_its_associations_to_their_end(place: Place) -> None:
    leader, other = await ready(place)
    over = False
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(talk(await call(place), lambda: over))
        place.signal(leader, signal.SIGTERM)
        await place.held(by=other, within_s=LEASE_S)
        new = await call(place)
        await asyncio.sleep(2)
        over = True
    assert talking.result() > ENOUGH
    await new.release()
    new.writer.close()
    assert await place.processes[leader].wait() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_leader_that_is_killed_or_stopped_is_followed_by_one(place: Place, number: int) -> None:
    leader, other = await ready(place)
    place.signal(leader, number)
    while other not in (holders := place.holders()):
        assert len(holders) < 2
        await asyncio.sleep(0.01)
    assert place.holders() == [other]
    caller = await call(place)
    await caller.release()
    caller.writer.close()
