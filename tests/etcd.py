"""Real etcd on loopback for tests: each member a process that can be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ClassVar, Final

import grpc.aio
import pytest
from pyetcd import etcdrpc

from cluster.settings import Etcd
from deploy.server import HOST, Server, free_port
from tests import tools
from tests.certificates import Authority

HEARTBEAT_MS: Final = 50
ELECTION_MS: Final = 500
_RAM: Final = Path("/dev/shm")


class EtcdMember(Server):
    """One member: `start`, `kill`, `signal(SIGSTOP)` and so on, as of every server."""

    PRODUCT: ClassVar[str] = "etcd"

    def __init__(self, folder: Path, authority: Authority | None) -> None:
        super().__init__(folder)
        self.peer_url = f"http://{HOST}:{free_port()}"
        self._metrics_port = free_port()
        self._authority = authority
        self.cluster: dict[str, str] = {}
        """Name and peer URL of each member."""
        self.token = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def endpoint(self) -> str:
        return f"{'https' if self._authority else 'http'}://{self.address}"

    def command(self) -> list[str]:
        program = tools.etcd()
        assert program is not None
        return [
            str(program),
            *("--name", self.name, "--data-dir", str(self.data)),
            *("--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--listen-metrics-urls", f"http://{HOST}:{self._metrics_port}"),
            *("--initial-cluster", ",".join(f"{name}={url}" for name, url in self.cluster.items())),
            *("--initial-cluster-token", self.token),
            *("--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)),
            *("--logger", "zap", "--log-level", "warn"),
            *self._tls(),
        ]

    def _tls(self) -> tuple[str, ...]:
        if self._authority is None:
            return ()
        pair = self._authority.pair(self.name)
        return (
            *("--cert-file", str(pair.certificate_file), "--key-file", str(pair.key_file)),
            *("--client-cert-auth", "--trusted-ca-file", str(self._authority.file)),
        )

    def environment(self) -> dict[str, str]:
        return {"GOMAXPROCS": "1"}

    async def is_ready(self) -> bool:
        """Whether it knows a leader."""
        return b'"health":"true"' in await self._page("/health")

    async def leads(self) -> bool:
        return b"\netcd_server_is_leader 1\n" in await self._page("/metrics")

    async def _page(self, path: str) -> bytes:
        try:
            reader, writer = await asyncio.open_connection(HOST, self._metrics_port)
        except OSError:
            return b""
        try:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return await reader.read()
        except OSError:
            return b""
        finally:
            writer.close()

    def make_data(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)


class EtcdCluster:
    """Members that form one cluster."""

    def __init__(self, folder: Path, size: int, authority: Authority | None) -> None:
        self.members = []
        for number in range(size):
            (folder / f"etcd-{number}").mkdir()
            self.members.append(EtcdMember(folder / f"etcd-{number}", authority))
        self._numbers = itertools.count(1)
        token = secrets.token_hex(8)
        for member in self.members:
            member.token = token
            member.cluster = {one.name: one.peer_url for one in self.members}

    def settings(self, **changed: object) -> Etcd:
        """Settings that reach it, with keys that no other test has; what it asks for is to be added."""
        endpoints = tuple(member.endpoint for member in self.members)
        prefix = f"/test-{next(self._numbers)}/"
        return Etcd.model_validate({"endpoints": endpoints, "prefix": prefix, **changed})

    async def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        member = next(member for member in self.members if member.pid is not None)
        async with grpc.aio.insecure_channel(str(member.address)) as channel:
            request = etcdrpc.CompactionRequest(revision=revision, physical=True)
            await etcdrpc.KVStub(channel).Compact(request)

    async def leader(self) -> EtcdMember:
        """The member that leads the others: all of them must run."""
        leading = [member for member in self.members if await member.leads()]
        assert len(leading) == 1
        return leading[0]

    async def mend(self) -> None:
        """Start what does not run, wake what was stopped, and wait until all of them answer."""
        for member in self.members:
            member.signal(signal.SIGCONT)
        await asyncio.gather(*(member.start() for member in self.members if member.pid is None))
        for member in self.members:
            while not await member.is_ready():  # noqa: ASYNC110  another process
                await asyncio.sleep(0.02)

    async def start_over(self) -> None:
        """Lose everything, and begin again with nothing."""
        await self.stop()
        for member in self.members:
            shutil.rmtree(member.data)
        await self.mend()

    async def stop(self) -> None:
        await asyncio.gather(*(member.kill() for member in self.members))


@contextmanager
def _folder() -> Iterator[Path]:
    """In memory, where it can be: etcd waits for the disk at each write, and tests share theirs."""
    folder = Path(tempfile.mkdtemp(prefix="atria-etcd-", dir=_RAM if _RAM.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_cluster(size: int = 3) -> Iterator[EtcdCluster]:
    """Run a cluster for as long as the context lasts, whatever event loop asks it.

    Skips the test when there is no etcd.
    """
    if tools.etcd() is None:
        pytest.skip("needs etcd (Debian package etcd-server)")
    with _folder() as folder:
        cluster = EtcdCluster(folder, size, None)
        asyncio.run(cluster.mend())
        try:
            yield cluster
        finally:
            asyncio.run(cluster.stop())


@asynccontextmanager
async def own_cluster(size: int = 1, authority: Authority | None = None) -> AsyncIterator[EtcdCluster]:
    """Run a cluster in the test's own event loop; skips the test when there is no etcd."""
    if tools.etcd() is None:
        pytest.skip("needs etcd (Debian package etcd-server)")
    with _folder() as folder:
        cluster = EtcdCluster(folder, size, authority)
        try:
            await cluster.mend()
            yield cluster
        finally:
            await cluster.stop()
