"""Workers killed at random moments under load: what was acknowledged is at W sites then, and soon at all."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cluster.coordination.registry import Member, Registry
from cluster.dicom import client
from cluster.dicom.association import Association
from cluster.dicom.faults import AssociationEnded
from cluster.dicom.requestor import AssociationRejected, ProposedContext
from cluster.settings import Settings, Site
from deploy import compose
from deploy.client.peer import Peer, parse_address
from deploy.overrides import Overrides
from storage_node.upkeep.verify import verify
from tests.integration.deploy.atria import up
from tests.unit.header.encoding import EXPLICIT, element
from tests.waiting import soon, until

SENDERS = 4
KILLS = 6
BETWEEN_KILLS = 7
"""Instances that are acknowledged at least before each, however long a busy machine takes over them."""
CT = "1.2.840.10008.5.1.4.1.1.2"
SETTINGS = "[limits]\nmemory_limit_bytes = 1048576\n"
"""What is larger is streamed."""
ROW = "SELECT key, data_set_offset_bytes FROM versions WHERE sop_instance_uid = ?"
OWED = "SELECT 1 FROM debts WHERE site = ? AND sop_instance_uid = ?"
SMALL_BYTES, LARGE_BYTES = 60_000, 3_000_000


@dataclass
class Load:
    """What is sent, and what became of it."""

    settings: Settings
    peer: Peer
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """Digest of the data set of each instance that was acknowledged, by its UID."""
    interrupted: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def goes_on(self) -> None:
        """Wait until some more are acknowledged."""
        wanted = len(self.acknowledged) + BETWEEN_KILLS
        await until(
            lambda: len(self.acknowledged) >= wanted,
            f"{wanted} instances are acknowledged",
            seen=lambda: (len(self.acknowledged), self.interrupted),
        )


def instances(sender: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Make data sets of one sender's study; every eighth is large."""
    number = 0
    while True:
        number += 1
        sop = f"1.2.{sender}.1.{number}"
        pixels = chance.randbytes(LARGE_BYTES if number % 8 == 0 else SMALL_BYTES)
        yield (
            sop,
            b"".join(
                (
                    element(0x00080016, "UI", _uid(CT)),
                    element(0x00080018, "UI", _uid(sop)),
                    element(0x00100020, "LO", b"P1"),
                    element(0x0020000D, "UI", _uid(f"1.2.{sender}")),
                    element(0x0020000E, "UI", _uid(f"1.2.{sender}.1")),
                    element(0x7FE00010, "OW", pixels),
                )
            ),
        )


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


async def send(load: Load, sender: int) -> None:
    """Send one instance after another, each again until it is acknowledged, until the load is over."""
    waiting = instances(sender, random.Random(sender))
    sop, data_set = next(waiting)
    while not load.over.is_set():
        try:
            async with await load.peer.connect([ProposedContext(CT, (EXPLICIT,))]) as association:
                while await is_acknowledged(association, sop, data_set):
                    load.acknowledged[sop] = sha256(data_set).digest()
                    await asyncio.to_thread(check_copies, load.settings.sites, sop, data_set)
                    sop, data_set = next(waiting)
                    if load.over.is_set():
                        return
        except (AssociationEnded, AssociationRejected, OSError):
            load.interrupted += 1
            await asyncio.sleep(0.05)  # the peer is a process that is being started again


async def is_acknowledged(association: Association, sop: str, data_set: bytes) -> bool:
    answer = await client.store(
        association,
        sop_class_uid=CT,
        sop_instance_uid=sop,
        transfer_syntax_uid=EXPLICIT,
        data_set=[data_set],
    )
    return answer.status == 0


def check_copies(sites: tuple[Site, ...], sop: str, data_set: bytes) -> None:
    """Look behind the cluster's back: two sites have object and row, and know of those that do not."""
    lacking = [site for site in sites if not has_copy(site, sop, data_set)]
    assert len(lacking) <= 1, f"{sop} was acknowledged, and {lacking} do not have it"
    for owed in lacking:
        noted = [site.name for site in sites if select(site, OWED, owed.name, sop)]
        assert len(noted) >= 2 or has_copy(owed, sop, data_set), "it may have come since we looked"


def has_copy(site: Site, sop: str, data_set: bytes) -> bool:
    for key, offset in select(site, ROW, sop):
        if (site.objects_folder / key).read_bytes()[offset:] == data_set:
            return True
    return False


def select(site: Site, statement: str, *values: str) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(f"file:{site.catalogue_file}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, values).fetchall()


async def kill_workers(load: Load, chance: random.Random) -> None:
    """Kill one worker after another that has somebody's association, at moments that chance chooses."""
    registry = compose.registry(load.settings)
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.3, 1.2))
        await load.goes_on()
        os.kill((await busy_worker(registry, chance)).pid, signal.SIGKILL)


async def busy_worker(registry: Registry, chance: random.Random) -> Member:
    """Return one that has an association, as soon as there is one: all may be being started."""
    async with soon("a worker has an association"), aclosing(registry.watch()) as memberships:
        async for members in memberships:
            if busy := [one for one in members if one.kind == "worker" and one.load.associations]:
                return chance.choice(busy)
    raise AssertionError


@asynccontextmanager
async def under_load(load: Load) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as senders:
        for sender in range(1, SENDERS + 1):
            senders.create_task(send(load, sender))
        yield
        load.over.set()


async def all_copies(settings: Settings) -> None:
    """Wait until every instance is at every site; the test's time limit is the limit."""
    async with compose.running_grid(settings) as grid:
        while not (await verify(grid)).complete:  # noqa: ASYNC110  # other processes see to it
            await asyncio.sleep(0.2)


async def test_killed_workers_cost_no_acknowledged_instance(tmp_path: Path) -> None:
    config = tmp_path / "atria.toml"
    config.write_text(SETTINGS)
    chance = random.Random(20260301)
    with up(tmp_path / "data", f"--config={config}", "--workers=3") as cluster:
        settings = Overrides(config=config, data=cluster.data).settings()
        host, port = parse_address(cluster.address)
        load = Load(settings, Peer(host, port, "ATRIA", "LOAD", settings.upper_layer_limits))
        async with under_load(load):
            await kill_workers(load, chance)
        assert load.interrupted >= KILLS
        assert len(load.acknowledged) >= KILLS * BETWEEN_KILLS
        await all_copies(settings)
    for site in settings.sites:
        for sop, digest in load.acknowledged.items():
            ((key, offset),) = select(site, ROW, sop)
            content = (site.objects_folder / key).read_bytes()
            assert sha256(content[offset:]).digest() == digest, (site.name, sop)
