"""`atria where`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from rich.table import Table

    from cluster.settings import Settings
    from storage_node.upkeep.where import FactAt, VersionAt, Whereabouts

_STYLES: Final = {"ok": "green", "purged": "yellow"}

SopUid = Annotated[str, typer.Argument(metavar="SOP_UID", help="SOP Instance UID.", show_default=False)]


def command(
    sop_uid: SopUid,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show where an instance is: its versions, what was decided about it, and each site's copy.

    Exits 1 when nobody knows it.

    [bold]Examples[/]

      atria where 1.2.826.0.1.3680043.8.498.1
    """
    found = run(_where(Overrides(config, data).settings(), sop_uid))
    if as_json:
        print(json.dumps([asdict(one) for one in found], default=_json))
    elif not found:
        console().print(f"No site that can be reached knows {sop_uid}.", style="red")
    for one in found if not as_json else ():
        _print(one)
    if not found:
        raise typer.Exit(1)


async def _where(settings: Settings, sop_uid: str) -> list[Whereabouts]:
    from deploy import compose
    from storage_node.grid.write import NotEnoughSites
    from storage_node.upkeep.where import where

    async with compose.running_grid(settings) as grid:
        try:
            return await where(grid, sop_uid)
        except NotEnoughSites as error:
            raise UserError(f"no catalogue answers: {error}") from error


def _json(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _print(found: Whereabouts) -> None:
    out = console()
    out.print(f"study   {found.instance.study_instance_uid}")
    out.print(f"series  {found.instance.series_instance_uid}")
    if found.hidden:
        out.print("[red]It is in no answer: it was deleted, or rejected.[/]")
    for number, version in enumerate(found.versions):
        out.print(_version(version, is_current=not number))
    if found.facts:
        out.print(_facts(found.facts))


def _version(version: VersionAt, *, is_current: bool) -> Table:
    from rich import box
    from rich.table import Table

    received = f"{version.provenance.received_at:%Y-%m-%d %H:%M:%S}"
    table = Table(
        "site",
        "state",
        "size",
        "verified",
        "key",
        title=f"{'current ' if is_current else ''}version {version.digest} ({version.size_bytes} bytes,"
        f" {version.transfer_syntax_uid}), from {version.provenance.calling_ae} at {received}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for copy in version.copies:
        state = f"[{_STYLES.get(copy.state, 'red')}]{copy.state}[/]"
        verified = f"{copy.verified_at:%Y-%m-%d %H:%M:%S}" if copy.verified_at else ""
        table.add_row(copy.site, state, str(copy.size_bytes), verified, copy.key)
    return table


def _facts(facts: tuple[FactAt, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("epoch", "fact", "by", "when", "why", "known at", box=box.SIMPLE_HEAD)
    for at in facts:
        fact = at.fact
        when = f"{fact.decided_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(fact.epoch), fact.kind, fact.decided_by, when, fact.reason, ", ".join(at.sites))
    return table
