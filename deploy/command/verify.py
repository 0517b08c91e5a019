"""`atria verify`."""

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
    from storage_node.upkeep.verify import Verification


Deep = Annotated[bool, typer.Option("--deep", help="Read every copy, and check its digest.")]


def command(
    deep: Deep = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Answer: is every instance at every site? Exits 1 when not.

    It compares what the sites' catalogues know, and looks for each object; it reads nothing of their
    content, unless it is asked to. It mends nothing. It works while the cluster runs, and when it does not.

    [bold]Examples[/]

      atria verify

      atria verify --deep

      atria verify --json || echo "not everything is everywhere"
    """
    settings = Overrides(config, data).settings()
    found = run(_verify(settings, deep=deep))
    if as_json:
        print(json.dumps({"complete": found.complete, **asdict(found)}))
    else:
        _print_table(found)
    if not found.complete:
        raise typer.Exit(1)


async def _verify(settings: Settings, *, deep: bool) -> Verification:
    from deploy import compose
    from deploy.command.progress import bar
    from storage_node.upkeep.verify import verify

    async with compose.running_grid(settings) as grid:
        with bar("verifying") as progress:
            return await verify(grid, progress, deep=deep)


def _print_table(found: Verification) -> None:
    from rich.table import Table

    out = console()
    table = Table(
        "site", "state", "in the catalogue", "objects", "missing", "facts missing", "owed to others"
    )
    for site in found.sites:
        state = "[green]up[/]" if site.up else f"[red]{site.why}[/]"
        missing = f"[red]{site.missing}[/]" if site.missing else "0"
        facts = f"[red]{site.facts_missing}[/]" if site.facts_missing else "0"
        table.add_row(site.site, state, str(site.rows), str(site.objects), missing, facts, str(site.debts))
    out.print(table)
    if found.complete:
        out.print(f"[green]Each of {found.versions - found.purged} instances is at every site.[/]")
        if found.purged:
            out.print(f"{found.purged} more were purged, and only their rows are left.")
        return
    out.print(f"[red]Not each of {found.versions} instances was found at every site.[/]")
    if away := [site.site for site in found.sites if not site.up]:
        out.print(f"Site {', '.join(away)} is not well: what it was not asked for counts as missing there.")
    else:
        out.print("Upkeep gives sites what they lack; `atria repair` does so now.")
