"""Balancer processes with a real etcd: one leads, and another does when it does not any more."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.coordination.registry import Address
from deploy.pages import NoPage, fetch
from deploy.server import free_port
from tests.certificates import Authority
from tests.etcd import EtcdCluster, own_cluster
from tests.waiting import soon

LEASE_S = 3.0
START_S = 40.0


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Wait for what only a process can tell, and return how many seconds it took."""
    began = time.monotonic()
    async with soon("the processes are so", within_s=within_s):
        while not await condition():  # noqa: ASYNC110  another process
            await asyncio.sleep(0.02)
    return time.monotonic() - began


@dataclass
class Balancer:
    """One process."""

    name: str
    config: Path
    http: Address
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.config.with_suffix(".log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.command.main", "balancer"),
                *("--config", str(self.config), "--name", self.name),
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            await self.process.wait()

    async def leads(self) -> bool:
        try:
            return (await fetch(self.http, "/leader", timeout_s=0.5)).status == 200
        except NoPage:
            return False

    async def status(self) -> dict[str, object]:
        return (await fetch(self.http, "/status", timeout_s=2)).json()["leadership"]  # type: ignore[no-any-return]


@dataclass
class Pair:
    """Two balancers, and the etcd that they share."""

    etcd: EtcdCluster
    balancers: tuple[Balancer, Balancer]

    def other(self, balancer: Balancer) -> Balancer:
        one, two = self.balancers
        return two if balancer is one else one

    async def ready(self) -> Balancer:
        """Wait until one leads, and the other is in the list; return the leader."""
        leader = await self.leader()
        other = self.other(leader)

        async def is_ready() -> bool:
            try:
                role = (await other.status())["role"]
            except NoPage:
                return False
            return role == "standby" and len((await leader.status())["balancers"]) > 1  # type: ignore[arg-type]

        await until(is_ready, START_S)
        return leader

    async def leader(self, within_s: float = START_S) -> Balancer:
        """Wait until one leads, and return it."""
        found: list[Balancer] = []

        async def one_leads() -> bool:
            found.extend([balancer for balancer in self.balancers if await balancer.leads()])
            return bool(found)

        await until(one_leads, within_s)
        return found[0]


async def command(balancer: Balancer, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.command.main", "balancer", *arguments),
        *("--config", str(balancer.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def configure(folder: Path, name: str, etcd: EtcdCluster, authority: Authority, prefix: str) -> Balancer:
    link, http, dicom = authority.link(name, port=free_port()), free_port(), free_port()
    config = folder / f"{name}.toml"
    endpoints = json.dumps([member.endpoint for member in etcd.members])
    config.write_text(
        f'data_folder = "{folder / name}"\ndrain_timeout_s = 1.0\n'
        f"[dicom]\nport = {dicom}\n[http]\nport = {http}\n"
        f'[etcd]\nendpoints = {endpoints}\nprefix = "{prefix}"\n'
        f'[link]\nport = {link.port}\ncertificate_file = "{link.certificate_file}"\n'
        f'key_file = "{link.key_file}"\nca_file = "{link.ca_file}"\n'
    )
    return Balancer(name, config, Address("127.0.0.1", http))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    authority = Authority(tmp_path)
    async with own_cluster() as etcd:
        one, two = (configure(tmp_path, name, etcd, authority, "/test/") for name in ("lb1", "lb2"))
        try:
            await asyncio.gather(one.start(), two.start())
            yield Pair(etcd, (one, two))
        finally:
            await asyncio.gather(one.end(), two.end())


async def test_when_the_leader_is_killed_the_other_leads(pair: Pair) -> None:
    leader = await pair.ready()
    other = pair.other(leader)
    assert not await other.leads()
    leader.signal(signal.SIGKILL)
    await until(other.leads, START_S)  # how soon: `make bench ARGS=failover`


async def test_a_leader_that_is_stopped_leads_no_more_when_it_is_woken(pair: Pair) -> None:
    leader = await pair.ready()
    other = pair.other(leader)
    leader.signal(signal.SIGSTOP)
    await until(other.leads, START_S)
    leader.signal(signal.SIGCONT)
    for _ in range(20):
        assert not await leader.leads()
        await asyncio.sleep(0.02)
    assert (await leader.status())["leader"] == other.name


async def test_an_operator_hands_over_and_is_told(pair: Pair) -> None:
    leader = await pair.ready()
    other = pair.other(leader)
    assert await command(leader, "hand-over", "--to", "lb9") == (
        2,
        f"atria: not handed over: there is no balancer lb9: there are {other.name}\n",
    )
    code, said = await command(leader, "hand-over", "--to", other.name)
    assert (code, said) == (0, f"{other.name} leads.\n")
    assert await other.leads()
    assert not await leader.leads()
    code, said = await command(leader, "list", "--json")
    assert {one["name"]: one["leads"] for one in json.loads(said)} == {leader.name: False, other.name: True}
    assert await command(leader, "hand-over", "--json") == (0, f'{{"leader": "{leader.name}"}}\n')


async def test_who_is_told_to_end_hands_over_first(pair: Pair) -> None:
    leader = await pair.ready()
    other = pair.other(leader)
    leader.signal(signal.SIGTERM)
    await until(other.leads, LEASE_S)
    assert leader.process is not None
    assert await leader.process.wait() == 0


async def test_without_etcd_the_leader_stays_as_long_as_the_other_promises(pair: Pair) -> None:
    leader = await pair.ready()
    other = pair.other(leader)
    await pair.etcd.stop()
    ends_at = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < ends_at:
        assert await leader.leads()
        assert not await other.leads()
        await asyncio.sleep(0.05)
    assert (await leader.status())["holds_by"] == "promises"
    other.signal(signal.SIGSTOP)

    async def let_go() -> bool:
        return not await leader.leads()

    await until(let_go, 2 * LEASE_S)
    other.signal(signal.SIGCONT)
    await pair.leader(within_s=6 * LEASE_S)


async def test_everything_is_started_anew_without_etcd(pair: Pair) -> None:
    await pair.ready()

    async def both_know() -> bool:
        return all(len(_noted(balancer)) > 1 for balancer in pair.balancers)

    await until(both_know, 10)
    await pair.etcd.stop()
    for balancer in pair.balancers:
        await balancer.end()
    await pair.balancers[1].start()
    await asyncio.sleep(2 * LEASE_S)
    assert not await pair.balancers[1].leads()
    await pair.balancers[0].start()
    leader = await pair.leader(within_s=8 * LEASE_S)
    await pair.etcd.mend()

    async def by_lease() -> bool:
        assert await leader.leads()
        return (await leader.status())["holds_by"] == "lease"

    await until(by_lease, 5 * LEASE_S)


def _noted(balancer: Balancer) -> dict[str, str]:
    """Return the balancers that one has written down."""
    folder = balancer.config.parent / balancer.name / "remembered" / balancer.name
    try:
        return json.loads((folder / "balancers.json").read_text())["balancers"]  # type: ignore[no-any-return]
    except FileNotFoundError:
        return {}
