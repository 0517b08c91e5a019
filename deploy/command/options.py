"""The options that commands share, in one place so that they are called and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from deploy.errors import UserError

_CLUSTER = "Cluster"
_PEER = "Peer"
_OF_COMMAND_LINE: Final = "COMMANDLINE"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="ATRIA_CONFIG",
        help="Settings file (TOML).",
        rich_help_panel=_CLUSTER,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="ATRIA_DATA",
        file_okay=False,
        help="Data folder of the cluster.",
        show_default="~/.local/share/atria",
        rich_help_panel=_CLUSTER,
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Address to listen on.", show_default="127.0.0.1", rich_help_panel=_CLUSTER
    ),
]
DicomPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        min=0,
        max=65535,
        help="DICOM port; 0 takes any free one.",
        show_default="11112",
        rich_help_panel=_CLUSTER,
    ),
]
HttpPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        min=0,
        max=65535,
        help="HTTP port of the status pages; 0 takes any free one.",
        show_default="8112",
        rich_help_panel=_CLUSTER,
    ),
]
AeTitle = Annotated[
    str | None,
    typer.Option(
        metavar="AE", help="AE title of the cluster.", show_default="ATRIA", rich_help_panel=_CLUSTER
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="HOST:PORT",
        help="Whom to call.",
        show_default="the cluster of the data folder",
        rich_help_panel=_PEER,
    ),
]
Called = Annotated[
    str | None,
    typer.Option(
        "--called",
        metavar="AE",
        help="AE title to call.",
        show_default="the cluster's",
        rich_help_panel=_PEER,
    ),
]
Calling = Annotated[
    str, typer.Option("--calling", metavar="AE", help="AE title to call ourselves.", rich_help_panel=_PEER)
]
Name = Annotated[str, typer.Option("--name", help="Name of the process in the cluster.")]


def check_nothing_given(context: typer.Context) -> None:
    """Refuse options that stand before a sub-command, where it would not see them.

    Raises
    ------
    UserError
        There is one.
    """
    for parameter in context.command.params:
        if was_given(context, parameter.name or ""):
            raise UserError(f"{parameter.opts[0]} belongs behind {context.invoked_subcommand}")


def was_given(context: typer.Context, parameter: str) -> bool:
    """Tell whether an option stands on the command line, and is not only what it is by default."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == _OF_COMMAND_LINE
