"""`atria retain`."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.nouns import FactKind
from deploy.command import options, selecting
from deploy.command.console import console
from deploy.command.run import run
from deploy.command.selecting import number
from deploy.command.who import account
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings
    from storage_node.upkeep.selecting import Selection

Until = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="YYYY-MM-DD", help="First day on which it may be deleted.", show_default=False
    ),
]
Release = Annotated[bool, typer.Option("--release", help="It may be deleted from now on.")]


def command(
    reason: selecting.Reason,
    uids: selecting.Uids = None,
    patient: selecting.Patients = None,
    accession: selecting.AccessionNumbers = None,
    until: Until = None,
    release: Release = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Keep studies, series or instances from being deleted before a day, or release them.

    What comes to a study that is kept is kept with it. Of a patient, the studies are kept that are there now.

    [bold]Examples[/]

      atria retain 1.2.826.0.1.3680043.8.498.1 --until 2036-12-31 --reason "ten years by law"

      atria retain 1.2.826.0.1.3680043.8.498.1 --release --reason "consent was withdrawn"
    """
    settings = Overrides(config, data).settings()
    of = selecting.selection(uids, patient, accession)
    decided, nothing = run(_retain(settings, of, _until(until, release=release), reason))
    if as_json:
        print(json.dumps({"decided": decided, "nothing_of": nothing}))
    else:
        done = "released" if release else f"kept until {until}"
        console().print(f"{number(decided, 'subject')} (studies, series or instances) {done}.")
    if nothing:
        typer.echo(f"atria: nothing is known of {', '.join(nothing)}", err=True)
        raise typer.Exit(1)


def _until(until: str | None, *, release: bool) -> date | None:
    """Return the day; None for a release.

    Raises
    ------
    UserError
        None is given, or one that has come already, or what is no day.
    """
    if release is (until is not None):
        raise UserError("say either --until YYYY-MM-DD or --release")
    if until is None:
        return None
    try:
        day = date.fromisoformat(until)
    except ValueError:
        raise UserError(f"--until: expected a day as 2036-12-31, found {until}") from None
    if day <= datetime.now(UTC).date():
        raise UserError(f"--until: {day} has come already: nothing would be kept")
    return day


async def _retain(
    settings: Settings, of: Selection, until: date | None, reason: str
) -> tuple[int, list[str]]:
    """Decide about each subject; return how many there are, and what stands for none."""
    kind = FactKind.RELEASED if until is None else FactKind.RETAINED
    details = () if until is None else (("until", until.isoformat()),)
    async with selecting.grid_of(settings) as grid:
        selected = await selecting.select(grid, of)
        for target in selected.targets:
            await grid.decide(target.subject, kind, by=account(), reason=reason, details=details)
        return len(selected.targets), selected.nothing
