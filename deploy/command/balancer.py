"""`atria balancer`."""

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
    name: options.Name = "balancer",
) -> None:
    """Run one balancer: the front door that all modalities call."""
    import asyncio

    from balancer.main import run
    from deploy import compose
    from deploy.process import serve

    settings = Overrides(config, data, host, dicom_port, http_port, ae_title).settings()

    async def body(stop: asyncio.Event) -> None:
        async with compose.joined(settings, name) as cluster:
            await run(settings, cluster.registry, stop, name=name)

    serve(settings, name, body)
