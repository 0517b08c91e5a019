"""A process that leads, and says every 10 ms whether it does, and when it asked: `… ENDPOINTS PREFIX`."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from cluster import telemetry
from cluster.coordination.etcd import EtcdCoordination
from cluster.coordination.leading import Leading
from cluster.settings import Etcd


async def main(endpoints: str, prefix: str) -> None:
    store = EtcdCoordination(Etcd(endpoints=tuple(endpoints.split(",")), prefix=prefix))
    leading = Leading(store, "leader", "sleeper", 2)
    task = asyncio.create_task(leading.run())
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 10  # said in development mode, and no business of this test
    end = asyncio.Event()
    loop.add_reader(sys.stdin, end.set)
    while not end.is_set():
        began = time.monotonic()
        print(began, leading.holds(), flush=True)
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()


if __name__ == "__main__":
    telemetry.configure("sleeper")
    uvloop.run(main(*sys.argv[1:]))
