"""Three MinIO servers on loopback, one a site, each with a folder of its own on the disk that is measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.errors import UserError
from deploy.minio import MinioServer, RootCredentials
from deploy.postgresql import PostgresqlServer
from deploy.postgresql_sites import DATABASE
from tests.bench import bare_s3, cluster
from tests.bench.bare_s3 import Bucket
from tests.bench.cluster import Cluster
from tests.bench.plan import Bench
from tests.bench.processes import Broken

NAMES: Final = ("a", "b", "c")
BUCKET: Final = "atria"
"""The bucket of each site."""
BARE_BUCKET: Final = "bare"
"""Where the bare client puts its objects: at the same servers, beside the sites' buckets."""


@dataclass(frozen=True, slots=True)
class ObjectServers:
    """The servers of all sites, by the sites' names."""

    servers: Mapping[str, MinioServer]
    folder: Path

    def bucket(self, site: str, name: str = BARE_BUCKET) -> Bucket:
        """Return a bucket at a site's server."""
        return Bucket(self.servers[site].endpoint, name)

    def buckets(self) -> tuple[Bucket, ...]:
        """Return the bare client's buckets, one at each server."""
        return tuple(self.bucket(site) for site in self.servers)

    @contextlib.contextmanager
    def hung(self, site: str) -> Iterator[None]:
        """Stop a server (SIGSTOP) until the block is left."""
        self.servers[site].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.servers[site].signal(signal.SIGCONT)

    def empty(self, site: str) -> None:
        """Start a server again as one that lost its drive; what was on it stays on the disk.

        Raises
        ------
        Broken
            It does not start.
        """
        server = self.servers[site]
        asyncio.run(server.stop())
        server.folder = server.folder.with_name(f"{server.folder.name}-again")  # nothing is ever deleted
        _start(server)

    @contextlib.contextmanager
    def atria(
        self, *, workers: int = 2, catalogues: Mapping[str, PostgresqlServer] | None = None
    ) -> Iterator[Cluster]:
        """Run a cluster whose sites these are, until the block is left.

        Parameters
        ----------
        workers : int
        catalogues : mapping of str to PostgresqlServer, optional
            Where each site has its catalogue; in files of SQLite when it is not given.

        Raises
        ------
        Broken
            It cannot be made, or does not start.
        """
        config = self.folder / "atria.toml"
        config.write_text("".join(self._site(name, catalogues) for name in self.servers), "utf-8")
        data = self.folder / "cluster"
        made = subprocess.run(
            cluster.atria_command("site init", data, config), capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise Broken(f"atria site init: {made.stdout}{made.stderr}")
        with cluster.atria(data, workers=workers, config=config) as running:
            yield running

    def _site(self, name: str, catalogues: Mapping[str, PostgresqlServer] | None) -> str:
        if catalogues is None:
            file = self.folder / f"site-{name}" / "catalogue.sqlite"
            catalogue = f'catalogue = "sqlite:///{file}"'
        else:
            server = catalogues[name]
            catalogue = f'catalogue = "{server.url(DATABASE)}"\ncatalogue_passfile = "{server.passfile}"'
        return (
            f'[[sites]]\nname = "{name}"\nobjects = "s3://{BUCKET}"\n'
            f'endpoint = "{self.servers[name].endpoint}"\n{catalogue}\n'
        )


@contextlib.contextmanager
def object_servers(folder: Path) -> Iterator[ObjectServers]:
    """Run three servers in `folder` until the block is left, each with a bucket for the bare client.

    Their credentials stand in the environment meanwhile.

    Raises
    ------
    Broken
        One did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    credentials = RootCredentials.generate()
    variables = {bare_s3.ACCESS_KEY: credentials.access_key, bare_s3.SECRET_KEY: credentials.secret_key}
    with ExitStack() as stack:
        servers: dict[str, MinioServer] = {}
        for name in NAMES:
            try:
                servers[name] = MinioServer(folder / f"server-{name}", credentials=credentials)
            except UserError as error:
                raise Broken(str(error)) from error
            stack.callback(_end, servers[name])
            _start(servers[name])
        stack.enter_context(_environment(variables))
        running = ObjectServers(servers, folder)
        make_buckets(running.buckets())
        yield running


@contextlib.contextmanager
def cluster_and_servers(
    bench: Bench,
    part: str,
    *,
    workers: int = 2,
    catalogues: Mapping[str, PostgresqlServer] | None = None,
) -> Iterator[tuple[Cluster, ObjectServers]]:
    """Run a cluster over three servers (`ObjectServers.atria`), in a folder of the part's own.

    Raises
    ------
    Broken
        One of them did not start.
    """
    bench.note("starting three MinIO servers, and a cluster over them")
    with (
        object_servers(bench.folder / part) as servers,
        servers.atria(workers=workers, catalogues=catalogues) as atria,
    ):
        yield atria, servers


def make_buckets(buckets: Sequence[Bucket]) -> None:
    """Make buckets for the bare client."""

    async def make() -> None:
        async with bare_s3.open_client(connections=1) as client:
            for bucket in buckets:
                await client.make_bucket(bucket)

    asyncio.run(make())


def _start(server: MinioServer) -> None:
    try:
        asyncio.run(server.start())
    except UserError as error:
        raise Broken(str(error)) from error


def _end(server: MinioServer) -> None:
    asyncio.run(server.stop())


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Have every process that is started from here see these variables, until the block is left."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
