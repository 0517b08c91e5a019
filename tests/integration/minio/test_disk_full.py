from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.faults import DiskFull, small_disk
from chaos.history import Outcome
from deploy.minio import MinioServer, RootCredentials
from storage_node.grid.sites import SiteState
from tests.integration.minio.world import Servers, World, inflicted, world

_SIZE_BYTES = 64 * 1024 * 1024

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")


@pytest.fixture
async def cramped(
    servers: Servers, credentials: RootCredentials, bucket: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A cluster whose sites `a` and `b` have little room; `c` has plenty."""
    own = {name: MinioServer(tmp_path / f"server-{name}", credentials=credentials) for name in ("a", "b")}
    with ExitStack() as stack:
        for server in own.values():
            stack.enter_context(small_disk(server.data, _SIZE_BYTES))
        try:
            for server in own.values():
                await server.start()
            async with world(tmp_path, {**own, "c": servers["c"]}, bucket) as one:
                yield one
        finally:
            for server in own.values():
                await server.stop()


async def test_a_full_site_is_passed_over_and_gets_what_it_lacks_when_it_has_room(cramped: World) -> None:
    await cramped.store(2)
    async with inflicted(DiskFull(cramped.servers["a"].data)):
        await cramped.store(2)
        await cramped.until_not_taking_writes("a")
        assert cramped.grid.health()["a"].state is SiteState.FULL
        await cramped.store()
        await cramped.check_readable()
    # Nobody stores anything now: it is repair that finds out that the site can be written to again.
    await cramped.repair()
    assert cramped.grid.health()["a"].takes_writes
    await cramped.check_repaired()


async def test_with_two_sites_full_the_sender_is_told_so_and_everything_is_read(cramped: World) -> None:
    await cramped.store(2)
    await cramped.repair()
    async with inflicted(*(DiskFull(cramped.servers[name].data) for name in ("a", "b"))):
        for name in ("a", "b"):
            await cramped.until_not_taking_writes(name)
        attempt = await cramped.send(cramped.image())
        assert attempt.outcome is Outcome.REFUSED
        assert attempt.said.startswith("0xa700"), attempt.said
        await cramped.check_readable()
    await cramped.until_up()
    await cramped.store()
    await cramped.repair()
    await cramped.check_repaired()
