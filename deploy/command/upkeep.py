"""`atria upkeep`."""

from __future__ import annotations

from deploy.command import options
from deploy.command.cluster import must_be_there
from deploy.overrides import Overrides


def command(
    config: options.Config = None,
    data: options.Data = None,
    host: options.Host = None,
    dicom_port: options.DicomPort = None,
    http_port: options.HttpPort = None,
    ae_title: options.AeTitle = None,
    name: options.Name = "upkeep",
) -> None:
    """Run one upkeep process: it brings sites that were away up to date, and looks after every copy.

    Any number may run at once: one of them fills sites, the others look after the rest with it.

    [bold]Examples[/]

      atria upkeep --name upkeep-2
    """
    import asyncio

    from deploy import compose
    from deploy.process import serve
    from deploy.roster import RecordRoster
    from deploy.upkeep import run

    settings = Overrides(config, data, host, dicom_port, http_port, ae_title).settings()
    if not settings.etcd.endpoints:
        must_be_there(settings)

    async def body(stop: asyncio.Event) -> None:
        async with (
            compose.joined(settings, name) as cluster,
            compose.running_grid(settings, cluster.coordination) as grid,
        ):
            await run(
                grid,
                cluster,
                stop,
                name=name,
                settings=settings,
                roster=RecordRoster(settings),
            )

    serve(settings, name, body)
