"""Processes that meet in etcd, as on several hosts: who sees whom, with etcd there and without it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cluster.coordination.registry import Member
from deploy import compose
from deploy.overrides import Overrides
from tests.etcd import EtcdCluster
from tests.integration.deploy.atria import COMMAND, up
from tests.waiting import SOON_S

LEASE_S = 2


@pytest.fixture
def etcd(etcd_for_all: EtcdCluster) -> Iterator[EtcdCluster]:
    yield etcd_for_all
    asyncio.run(etcd_for_all.mend())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, etcd_for_all: EtcdCluster) -> Overrides:
    """Settings of a host whose sites were made."""
    folder = tmp_path_factory.mktemp("host")
    with up(folder / "data"):
        pass
    settings = etcd_for_all.settings(prefix="/host/")
    file = folder / "atria.toml"
    endpoints = ", ".join(f'"{endpoint}"' for endpoint in settings.endpoints)
    file.write_text(
        f'data_folder = "{folder / "data"}"\n'
        f'etcd = {{ endpoints = [{endpoints}], prefix = "/host/", membership_lease_s = {LEASE_S},'
        " cold_start_s = 1 }\n"
        "dicom = { port = 0 }\nhttp = { port = 0 }\n"
    )
    return Overrides(config=file)


@contextmanager
def running(host: Overrides, kind: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    log = (host.settings().data_folder / f"{name}.log").open("wb")
    process = subprocess.Popen(
        [*COMMAND, kind, f"--config={host.config}", f"--name={name}"], stderr=log, stdin=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def said(host: Overrides, name: str) -> str:
    """Return the end of what a process said."""
    return (host.settings().data_folder / f"{name}.log").read_text()[-1000:]


def members(host: Overrides) -> list[Member]:
    return asyncio.run(compose.members(host.settings()))


def until(host: Overrides, *names: str, within_s: float = SOON_S) -> None:
    end = time.monotonic() + within_s
    while (found := sorted(member.name for member in members(host))) != sorted(names):
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_processes_are_there_while_they_live_and_outlive_an_outage(
    etcd: EtcdCluster, host: Overrides
) -> None:
    with (
        running(host, "worker", "h1-worker-1"),
        running(host, "worker", "h2-worker-1") as worker,
        running(host, "balancer", "h1") as balancer,
    ):
        until(host, "h1", "h1-worker-1", "h2-worker-1")
        worker.send_signal(signal.SIGTERM)
        until(host, "h1", "h1-worker-1")
        assert worker.wait(SOON_S) == 0
        for member in etcd.members:
            asyncio.run(member.kill())
        time.sleep(2 * LEASE_S)
        assert balancer.poll() is None
        asyncio.run(etcd.mend())
        until(host, "h1", "h1-worker-1")
        balancer.send_signal(signal.SIGTERM)
        assert balancer.wait(SOON_S) == 0
    until(host)


def test_processes_start_without_etcd_and_are_found_by_what_is_on_disk(
    etcd: EtcdCluster, host: Overrides
) -> None:
    with running(host, "worker", "h1-worker-1"), running(host, "balancer", "h1"):
        until(host, "h1", "h1-worker-1")
        file = host.settings().remembered_folder / "h1" / "members.json"
        end = time.monotonic() + SOON_S
        while not (file.exists() and "h1-worker-1" in file.read_text()):
            assert time.monotonic() < end, "what it knows of others is not on disk"
            time.sleep(0.05)
        for member in etcd.members:
            asyncio.run(member.kill())
    log = host.settings().data_folder / "h1.log"
    with running(host, "balancer", "h1"), running(host, "worker", "h1-worker-1"):
        end = time.monotonic() + SOON_S
        while '"worker.found"' not in log.read_text() and "worker.found" not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        asyncio.run(etcd.mend())
        until(host, "h1", "h1-worker-1")


def test_one_upkeep_process_fills_and_another_takes_over(etcd: EtcdCluster, host: Overrides) -> None:
    async def leader() -> str:
        store = compose.coordination(host.settings())
        assert store is not None
        try:
            entries = (await store.read("fill")).entries
        finally:
            await store.close()
        return entries["fill"].value.decode() if entries else ""

    def until_leads(holds: Callable[[str], bool]) -> str:
        end = time.monotonic() + SOON_S
        while not holds(found := asyncio.run(leader())):
            assert time.monotonic() < end, (found, said(host, "h1-upkeep"), said(host, "h2-upkeep"))
            time.sleep(0.1)
        return found

    with running(host, "upkeep", "h1-upkeep") as one, running(host, "upkeep", "h2-upkeep") as other:
        first = until_leads(bool)
        (one if first == "h1-upkeep" else other).send_signal(signal.SIGKILL)
        assert {first, until_leads(lambda name: name not in ("", first))} == {"h1-upkeep", "h2-upkeep"}
