"""`atria repair`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings
    from storage_node.upkeep.anti_entropy import Comparison
    from storage_node.upkeep.listing import Report as Listed
    from storage_node.upkeep.repair import Report as Repaired


def command(config: options.Config = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """Give each site the copies that it lacks. Exits 1 when something is left.

    The sites' catalogues are compared with each other, and with the objects that are there; what is lacking
    is copied from the other sites. Upkeep does all of this by itself: this is for who does not want to wait.

    [bold]Examples[/]

      atria repair

      atria repair --json
    """
    settings = Overrides(config, data).settings()
    compared, listed, repaired = run(_repair(settings))
    is_done = not (repaired.failed or repaired.open or compared.not_read or listed.not_listed)
    if as_json:
        reports = {"compared": asdict(compared), "listed": asdict(listed), "repaired": asdict(repaired)}
        print(json.dumps({"done": is_done, **reports}))
    else:
        _print(compared, listed, repaired)
    if not is_done:
        raise typer.Exit(1)


async def _repair(settings: Settings) -> tuple[Comparison, Listed, Repaired]:
    from deploy import compose
    from deploy.command.progress import bar
    from storage_node.upkeep.anti_entropy import AntiEntropy
    from storage_node.upkeep.listing import Listing
    from storage_node.upkeep.repair import Repair

    async with compose.running_grid(settings) as grid:
        with bar("comparing catalogues") as progress:
            compared = await AntiEntropy(grid, settings.upkeep).run_once(progress)
        with bar("looking for objects") as progress:
            listed = await Listing(grid, settings.upkeep).run_once(progress)
        with bar("repairing") as progress:
            repaired = await Repair(grid, settings.upkeep).run_once(progress)
    return compared, listed, repaired


def _print(compared: Comparison, listed: Listed, repaired: Repaired) -> None:
    out = console()
    out.print(f"{compared.found} copies and facts were lacking, {listed.missing} objects were missing.")
    out.print(f"{repaired.paid} were given to their sites.")
    for sites in (compared.not_read, listed.not_listed):
        if sites:
            out.print(f"[red]Not all of {', '.join(sites)} could be looked at.[/]")
            break
    if repaired.unreadable:
        out.print(f"[red]{repaired.unreadable} cannot be given: no site has a good copy.[/]")
    if repaired.open:
        out.print(f"[red]{repaired.open} are still owed.[/]")
    else:
        out.print("[green]Nothing is owed.[/]")
