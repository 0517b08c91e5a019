"""`atria worker`."""

from __future__ import annotations

from deploy.command import options
from deploy.overrides import Overrides


def command(
    config: options.Config = None,
    data: options.Data = None,
    host: options.Host = None,
    dicom_port: options.DicomPort = None,
    http_port: options.HttpPort = None,
    ae_title: options.AeTitle = None,
    name: options.Name = "worker-1",
) -> None:
    """Run one worker: it speaks DICOM with whom the balancer sends, and writes to the sites.

    It listens on free ports of the loopback interface and announces them to the balancer.
    """
    import asyncio

    from deploy import compose
    from deploy.process import serve
    from storage_node.worker import run

    overrides = Overrides(config, data, host, dicom_port, http_port, ae_title)
    settings = overrides.settings()

    async def body(stop: asyncio.Event) -> None:
        async with (
            compose.joined(settings, name) as cluster,
            compose.live(settings, overrides.file, cluster.coordination) as live,
            compose.running_grid(settings) as grid,
        ):
            await run(live, grid, cluster.registry, stop, name=name)

    serve(settings, name, body)
