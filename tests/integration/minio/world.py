"""A worker's services over three real MinIO servers, and what is looked at behind its back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from minio import Minio

from chaos import checker, history
from chaos.faults import Fault
from chaos.history import Attempt, Content, History, Outcome
from chaos.proxy import Proxy
from cluster.coordination.registry import Address
from cluster.dicom import client
from cluster.dicom.acceptor import Acceptor
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.dicom.part10 import file_meta
from cluster.dicom.requestor import ProposedContext
from cluster.nouns import Instance
from cluster.settings import Settings, load
from cluster.settings.live import LiveSettings
from deploy import compose, making
from deploy.client.files import DicomFile, recognise
from deploy.client.peer import Peer
from deploy.minio import MinioServer
from deploy.server import HOST
from storage_node.catalogue.protocol import Row
from storage_node.grid.grid import Grid
from storage_node.services.service import Services
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.listing import Listing
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.scrub import Scrub
from storage_node.upkeep.verify import verify
from tests.bench import instances
from tests.waiting import soon

Servers = Mapping[str, MinioServer]

WRITING = {
    "straggler_grace_s": 0.2,
    "site_timeout_s": 10.0,
    "probe_interval_s": 0.1,
    "probe_timeout_s": 2.0,
    "hedge_after_s": 0.1,
    "free_space_low_bytes": 8 * 1024 * 1024,
}
_ROUND_INTERVAL_S = 0.05
MEMORY_LIMIT_BYTES = 2 * 1024 * 1024
_EXPLICIT = instances.EXPLICIT_VR_LITTLE_ENDIAN


@dataclass
class World:
    """A cluster that runs, with a bucket of its own at each server."""

    settings: Settings
    grid: Grid
    peer: Peer
    servers: Servers
    proxies: Mapping[str, Proxy]
    bucket: str
    folder: Path
    notes: History
    files: dict[str, DicomFile] = field(default_factory=dict)
    """What was sent, by SOP Instance UID."""

    def image(self, *, frames: int = 1) -> DicomFile:
        """Make another instance of 526 KB a frame."""
        uids = instances.uids(1, 1, len(self.files))
        made = instances.multi_frame(uids, frames) if frames > 1 else instances.ct_image(uids)
        sop = uids.instance.decode("ascii")
        path = self.folder / f"{sop}.dcm"
        meta = file_meta(made.sop_class_uid, sop, _EXPLICIT)
        path.write_bytes(meta + made.header + instances.pixels(made.pixel_bytes))
        file = recognise(path)
        self.files[sop] = file
        return file

    async def send(self, file: DicomFile, *, half_way: Callable[[], None] = lambda: None) -> Attempt:
        """Send an instance, and return what came of it; the history has it, too.

        Parameters
        ----------
        file : DicomFile
        half_way : callable
            Called when half of it was sent.
        """

        async def data_set() -> AsyncGenerator[bytes]:
            sent_bytes = 0
            for block in file.data_set():
                if sent_bytes <= file.size_bytes // 2 < sent_bytes + len(block):
                    half_way()
                yield block
                sent_bytes += len(block)

        number = self.notes.sent(Content.of(file))
        async with await self.peer.connect(
            [ProposedContext(file.sop_class_uid, (_EXPLICIT,))]
        ) as association:
            response = await client.store(
                association,
                sop_class_uid=file.sop_class_uid,
                sop_instance_uid=file.sop_instance_uid,
                transfer_syntax_uid=file.transfer_syntax_uid,
                data_set=data_set(),
            )
        outcome = Outcome.REFUSED if response.status else Outcome.ACKNOWLEDGED
        self.notes.ended(number, outcome, f"{response.status:#06x} {response.error_comment or ''}")
        return self.attempts()[number]

    async def store(self, count: int = 1, *, frames: int = 1) -> list[DicomFile]:
        """Send so many new instances, all of which must be acknowledged."""
        files = [self.image(frames=frames) for _ in range(count)]
        for file in files:
            attempt = await self.send(file)
            assert attempt.outcome is Outcome.ACKNOWLEDGED, attempt.said
        return files

    def attempts(self) -> list[Attempt]:
        """Return the history."""
        return history.read(self.folder / "history.jsonl")

    async def check_readable(self) -> None:
        """What must hold at any moment: all that was acknowledged comes by C-GET, as it was sent."""
        verdict = checker.judge(self.attempts(), await checker.retrieve(self.peer, self.folder / "received"))
        assert verdict.held, verdict

    async def until_up(self, *names: str) -> None:
        """Wait until these sites, or all, are up and take writes."""
        async with soon("these sites take writes", seen=self.grid.health):
            await self.grid.sites.wait_until(
                lambda health: all(health[name].takes_writes for name in names or self.servers)
            )

    async def until_not_taking_writes(self, name: str) -> None:
        """Wait until a site is known not to be worth writing to."""
        async with soon(f"{name} takes no writes", seen=self.grid.health):
            await self.grid.sites.wait_until(lambda health: not health[name].takes_writes)

    async def repair(self) -> None:
        """Pay what is owed, until each site has everything and nothing is owed any more."""
        repair = Repair(self.grid, self.settings.upkeep)
        found = None
        async with soon("nothing is owed", seen=lambda: (found, self.grid.health())):
            while not (found := await verify(self.grid)).complete or any(site.debts for site in found.sites):
                await repair.run_once()
                await asyncio.sleep(_ROUND_INTERVAL_S)

    async def compare(self) -> None:
        """Compare the catalogues, and each bucket with its catalogue: differences become debts."""
        await AntiEntropy(self.grid, self.settings.upkeep).run_once()
        await Listing(self.grid, self.settings.upkeep).run_once()

    async def scrub(self) -> None:
        """Read every copy: what is bad becomes a debt."""
        await Scrub(self.grid, self.settings.upkeep).run_once(everything=True)

    async def row_at(self, site: str, file: DicomFile) -> Row:
        """Return a site's own row of an instance that has one version."""
        (row,) = await self.grid.sites[site].catalogue.rows_of(instance_of(file))
        return row

    async def check_alone(self, site: str) -> None:
        """What must hold once all is repaired: this site's own copies have what was acknowledged."""
        for attempt in self.attempts():
            if attempt.outcome is Outcome.ACKNOWLEDGED:
                file = self.files[attempt.content.sop_instance_uid]
                row = await self.row_at(site, file)
                stored = await asyncio.to_thread(self._object, site, row.version.key)
                assert sha256(stored).hexdigest() == row.version.digest
                data_set = stored[row.version.data_set_offset_bytes :]
                assert sha256(data_set).hexdigest() == attempt.content.digest

    async def check_repaired(self) -> None:
        """What must hold once all is repaired, of each site and of the whole."""
        for name in self.servers:
            await self.check_alone(name)
        await self.check_readable()

    def _object(self, site: str, key: str) -> bytes:
        response = s3(self.servers[site]).get_object(bucket_name=self.bucket, object_name=key)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()


def instance_of(file: DicomFile) -> Instance:
    """Return an instance that `World.image` made."""
    number = int(file.sop_instance_uid[-10:])
    uids = instances.uids(1, 1, number)
    return Instance(uids.study.decode(), uids.series.decode(), uids.instance.decode())


def s3(server: MinioServer) -> Minio:
    """Return a client with all rights."""
    credentials = server.credentials
    return Minio(
        endpoint=server.endpoint.removeprefix("http://"),
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        secure=False,
    )


@asynccontextmanager
async def inflicted(*faults: Fault) -> AsyncIterator[None]:
    """Have faults for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        for fault in faults:
            stack.push_async_callback(fault.heal)
            await fault.inflict()
        yield


@asynccontextmanager
async def world(
    folder: Path, servers: Servers, bucket: str, *, proxied: Collection[str] = (), **writing: float
) -> AsyncIterator[World]:
    """Run services over the servers, and new sites in them; some behind a proxy."""
    async with AsyncExitStack() as stack:
        proxies = {name: Proxy(Address(HOST, servers[name].port)) for name in sorted(proxied)}
        for proxy in proxies.values():
            await proxy.start()
            stack.push_async_callback(proxy.close)
        settings = load(
            None,
            data_folder=folder / "cluster",
            sites=[
                {
                    "name": name,
                    "objects": f"s3://{bucket}",
                    "endpoint": (proxies.get(name) or server).endpoint,
                    "catalogue": f"sqlite:///{folder}/catalogues/{name}.sqlite",
                }
                for name, server in servers.items()
            ],
            writing=WRITING | writing,
            limits={"memory_limit_bytes": MEMORY_LIMIT_BYTES},
        )
        await asyncio.to_thread(making.init, settings, [site.name for site in settings.sites])
        grid = await stack.enter_async_context(compose.running_grid(settings))
        policy = AcceptancePolicy(ae_title=settings.dicom.ae_title)
        acceptor = Acceptor(policy, settings.upper_layer_limits, Services(LiveSettings(settings), grid).serve)
        host, port = await acceptor.listen(HOST, 0)
        stack.push_async_callback(acceptor.drain, 0)
        peer = Peer(host, port, settings.dicom.ae_title, "TESTER", settings.upper_layer_limits)
        notes = stack.enter_context(History(folder / "history.jsonl"))
        running = World(settings, grid, peer, servers, proxies, bucket, folder, notes)
        await running.until_up()
        yield running
