"""`atria up`."""

from __future__ import annotations

import enum
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.run import on_loop
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from deploy.supervisor import Ready

Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=64, help="Worker processes.", show_default="2")
]


class SiteKind(enum.StrEnum):
    """Where the sites of a one-host cluster have their objects."""

    FOLDERS = "folders"
    MINIO = "minio"


class CatalogueKind(enum.StrEnum):
    """Where they have their catalogues."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


Sites = Annotated[
    SiteKind | None,
    typer.Option(
        help="What a new cluster has as sites: folders, or a MinIO server each.",
        show_default="folders",
    ),
]
Catalogue = Annotated[
    CatalogueKind | None,
    typer.Option(
        help="What a new cluster has as catalogues: SQLite files, or a PostgreSQL server each.",
        show_default="sqlite",
    ),
]


def command(
    config: options.Config = None,
    data: options.Data = None,
    host: options.Host = None,
    dicom_port: options.DicomPort = None,
    http_port: options.HttpPort = None,
    ae_title: options.AeTitle = None,
    workers: Workers = None,
    sites: Sites = None,
    catalogue: Catalogue = None,
    as_json: options.Json = False,
) -> None:
    """Start a cluster on this host: a balancer, workers, upkeep, and three sites in the data folder.

    It runs until Ctrl-C, which lets running associations finish; a second Ctrl-C ends at once.
    What is stored outlives it: the next start finds the same data again.

    [bold]Examples[/]

      atria up

      atria up --data /srv/atria --host 0.0.0.0 --workers 4

      atria up --sites minio --catalogue postgresql --data /srv/atria

      atria up --dicom-port 0 --http-port 0 --json
    """
    from cluster import telemetry
    from deploy import making, own_sites
    from deploy.supervisor import Supervisor, sole_user

    overrides = Overrides(config, data, host, dicom_port, http_port, ae_title, workers)
    settings = overrides.settings()

    telemetry.configure("supervisor")
    with sole_user(settings.data_folder):
        minio = None if sites is None else sites is SiteKind.MINIO
        postgresql = None if catalogue is None else catalogue is CatalogueKind.POSTGRESQL
        if own_sites.choose(settings, minio=minio, postgresql=postgresql):
            settings = overrides.settings()
        servers = own_sites.servers(settings)
        if servers:
            making.make_folders(settings)  # the sites are made when their servers run
        else:
            for said in making.prepare(settings):
                typer.echo(f"atria: {said}", err=True)

        async def supervise() -> bool:
            on_ready = _print_json if as_json else _print_table
            return await Supervisor(settings, overrides, servers, on_ready=on_ready).run()

        all_finished = on_loop(supervise())
    if not all_finished:
        raise UserError("ended at once: associations that were running were cut off")


def _print_json(ready: Ready) -> None:
    values = {
        "dicom": {"host": ready.dicom.host, "port": ready.dicom.port, "ae_title": ready.ae_title},
        "tls": None if ready.tls is None else {"host": ready.tls.host, "port": ready.tls.port},
        "http": {"host": ready.http.host, "port": ready.http.port},
        "data_folder": str(ready.data_folder),
    }
    print(json.dumps(values), flush=True)


def _print_table(ready: Ready) -> None:
    import socket

    from rich.console import Console
    from rich.table import Table

    from cluster.coordination.registry import Address

    every = ready.dicom.host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound
    host = socket.gethostname() if every else ready.dicom.host
    called = Address(host, ready.dicom.port)
    table = Table(title="Atria is ready", title_style="bold green", show_header=False, title_justify="left")
    table.add_row("DICOM", f"{ready.dicom}, AE title {ready.ae_title}")
    if ready.tls is not None:
        table.add_row("with TLS", str(ready.tls))
    table.add_row("HTTP", f"http://{ready.http}/status  (/metrics, /healthz, /readyz)")
    table.add_row("Data", str(ready.data_folder))
    table.add_row("Logs", str(ready.data_folder / "logs"))
    table.add_row("Send", f"atria send --to {called} FOLDER")
    table.add_row(
        "or, with DCMTK",
        f"storescu -aec {ready.ae_title} {called.host} {called.port} +sd +r FOLDER",
    )
    table.add_row("Look", f"atria status --data {ready.data_folder}")
    table.add_row("End", "Ctrl-C (lets associations finish)")
    Console(file=sys.stdout).print(table)
