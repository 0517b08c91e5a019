"""A balancer, set up as `atria balancer` is, before one worker: `python -m tests.bench.balancer_alone`.

Arguments: its port, the worker's, and for TLS another port, a certificate's file and its key's.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from balancer.front_door import FrontDoor
from cluster.coordination.registry import Address, Member
from cluster.settings import Settings
from cluster.settings.live import LiveSettings
from deploy.process import serve
from tests.registry import registry_in_memory

_ASSOCIATIONS = 3500


async def _balance(stop: asyncio.Event, settings: Settings, port: int, worker_port: int) -> None:
    registry = registry_in_memory()
    worker = Address("127.0.0.1", worker_port)
    member = Member("worker", "worker-1", worker, 1, "0", datetime.now(UTC), worker)
    async with await registry.announce(member):
        door = FrontDoor(LiveSettings(settings), registry, name="balancer")
        await door.listen("127.0.0.1", port)
        await stop.wait()
        await door.drain(0)


def main() -> None:
    """Balance until asked to end."""
    port, worker_port, *tls = sys.argv[1:]
    tables: dict[str, object] = {"limits": {"balancer_associations": _ASSOCIATIONS}}
    if tls:
        tls_port, certificate_file, key_file = tls
        tables["tls"] = {
            "mode": "ended",
            "port": int(tls_port),
            "certificate_file": certificate_file,
            "key_file": key_file,
        }
    settings = Settings.model_validate(tables)
    serve(settings, "balancer", lambda stop: _balance(stop, settings, int(port), int(worker_port)))


if __name__ == "__main__":
    main()
