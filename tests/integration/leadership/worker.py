"""`python -m tests.integration.leadership.worker CONFIG HOST`: a worker that sends everything back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cluster.coordination.registry import Address
from cluster.settings import load
from deploy import compose
from tests.integration.balancer.world import FakeWorker, echo


async def main(config: str, host: str) -> None:
    worker = FakeWorker(echo)
    server = await asyncio.start_server(worker._serve, host, 0)
    worker.address = Address(host, server.sockets[0].getsockname()[1])
    async with (
        compose.joined(load(Path(config)), worker.name) as cluster,
        await cluster.registry.announce(worker.member()),
    ):
        await asyncio.get_running_loop().create_future()


asyncio.run(main(*sys.argv[1:]))
