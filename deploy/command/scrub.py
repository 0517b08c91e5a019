"""`atria scrub`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings
    from storage_node.upkeep.scrub import Report

All = Annotated[bool, typer.Option("--all", help="Read every copy, not only those that are due.")]


def command(
    everything: All = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Read copies and check their digests. Exits 1 when one is bad, or a site could not be read.

    A bad copy is noted; upkeep, or [bold]atria repair[/], puts a good one in its place. Upkeep does this by
    itself, spread over the days that the settings name.

    [bold]Examples[/]

      atria scrub

      atria scrub --all
    """
    settings = Overrides(config, data).settings()
    found = run(_scrub(settings, everything=everything))
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        _print(found)
    if found.bad or found.interrupted:
        raise typer.Exit(1)


async def _scrub(settings: Settings, *, everything: bool) -> Report:
    from deploy import compose
    from deploy.command.progress import bar
    from storage_node.upkeep.scrub import Scrub

    async with compose.running_grid(settings) as grid:
        with bar("reading copies") as progress:
            return await Scrub(grid, settings.upkeep).run_once(progress, everything=everything)


def _print(found: Report) -> None:
    out = console()
    out.print(f"{found.read} copies were read.")
    if found.interrupted:
        out.print(f"[red]Not all of {', '.join(found.interrupted)} could be read.[/]")
    if found.bad:
        out.print(f"[red]{found.bad} are bad, and noted: `atria repair` replaces them.[/]")
    else:
        out.print("[green]All of them are right.[/]")
