"""`atria merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options, planned
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.correcting import Plan

Patient = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID that goes.")]
Into = Annotated[
    str | None,
    typer.Option("--into", metavar="ID", help="Patient ID that stays.", show_default=False),
]
IntoIssuer = Annotated[
    str | None,
    typer.Option("--into-issuer", metavar="ISSUER", help="Issuer of the ID that stays, if several have it."),
]
Undo = Annotated[bool, typer.Option("--undo", help="Take a merge back.")]


def command(
    patient: Patient,
    reason: planned.Reason,
    into: Into = None,
    issuer: planned.Issuer = None,
    into_issuer: IntoIssuer = None,
    undo: Undo = False,
    yes: options.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Let two patients be one: whatever is, or comes, under the one ID is answered under the other.

    What is stored stays as it is, and [bold]--undo[/] parts them again.

    [bold]Examples[/]

      atria merge --patient 4711 --into 815 --reason "one person, admitted twice"

      atria merge --undo --patient 4711 --reason "two persons"
    """
    settings = Overrides(config, data).settings()
    if undo is (into is not None):
        raise UserError("say --into ID, or --undo to take a merge back")

    async def planning(grid: Grid) -> Plan:
        from storage_node.upkeep import merging, subjects

        if into is None:
            return await merging.unmerge(grid, patient, issuer)
        old = await subjects.patient(grid, patient, issuer)
        return await merging.merge(grid, old, await subjects.patient(grid, into, into_issuer))

    planned.decide(settings, planning, reason=reason, yes=yes, as_json=as_json)
