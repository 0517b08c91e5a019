"""What `atria correct` and `atria merge` have in common: show what changes, ask, decide, and say so."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from deploy.command.console import console
from deploy.command.run import run
from deploy.command.who import account
from deploy.errors import UserError

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from cluster.settings import Settings
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.correcting import Plan

Planning: TypeAlias = "Callable[[Grid], Awaitable[Plan]]"

Patient = Annotated[
    str | None, typer.Option("--patient", metavar="ID", help="Patient ID.", show_default=False)
]
Issuer = Annotated[
    str | None,
    typer.Option("--issuer", metavar="ISSUER", help="Issuer of that Patient ID, if there are several."),
]
Reason = Annotated[
    str, typer.Option("--reason", help="Why: it is kept with the decision.", show_default=False)
]

_SHOWN_STUDIES: Final = 20


def decide(settings: Settings, planning: Planning, *, reason: str, yes: bool, as_json: bool) -> None:
    """Work out what changes, show it, ask, and decide it.

    Raises
    ------
    UserError
        It cannot be done, or too few sites answer.
    """
    plan = run(_plan(settings, planning))
    if not as_json:
        _show(plan)
    elif plan.note:
        typer.echo(f"atria: {plan.note}", err=True)
    is_so = plan.details == plan.held
    if not is_so and not yes and not typer.confirm(f"{_extent(plan)} will be answered so. Go on?", err=True):
        raise typer.Exit(1)
    fact = run(_decide(settings, plan, reason))
    if as_json:
        print(json.dumps(_to_json(plan, fact)))
    else:
        console().print("It is so already." if is_so else "It is decided. What is stored stays as it is.")


async def _plan(settings: Settings, planning: Planning) -> Plan:
    from deploy import compose
    from storage_node.catalogue.correctable import BadCorrection
    from storage_node.grid.find import NoCatalogue
    from storage_node.grid.write import NotEnoughSites

    async with compose.running_grid(settings) as grid:
        try:
            return await planning(grid)
        except BadCorrection as error:
            raise UserError(str(error)) from error
        except (NoCatalogue, NotEnoughSites) as error:
            raise UserError(f"no catalogue answers: {error}") from error


async def _decide(settings: Settings, plan: Plan, reason: str) -> Fact:
    from deploy import compose
    from storage_node.catalogue.correctable import BadCorrection
    from storage_node.grid.write import NotEnoughSites
    from storage_node.upkeep.correcting import decide

    async with compose.running_grid(settings) as grid:
        try:
            return await decide(grid, plan, by=account(), reason=reason)
        except BadCorrection as error:
            raise UserError(str(error)) from error
        except NotEnoughSites as error:
            raise UserError(f"it is not decided: {error}: say it again when they answer") from error


def _show(plan: Plan) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from storage_node.catalogue.correctable import keyword

    out = console()
    if plan.changes:
        table = Table("attribute", "before", "after", box=box.SIMPLE_HEAD)
        for change in plan.changes:
            table.add_row(keyword(change.tag), *map(escape, (change.before, change.after)))
        out.print(table)
    if plan.moved:
        table = Table("study", "date", "description", "instances", box=box.SIMPLE_HEAD)
        for study in plan.moved[:_SHOWN_STUDIES]:
            table.add_row(*map(escape, _described(study)))
        out.print(table)
    if len(plan.moved) > _SHOWN_STUDIES:
        out.print(f"and {len(plan.moved) - _SHOWN_STUDIES} more studies")
    if plan.note:
        out.print(escape(plan.note))


def _described(study: Match) -> tuple[str, str, str, str]:
    from storage_node.upkeep.subjects import said

    corrected = dict(study.corrected)
    date, description = (said(study, corrected, tag) for tag in (0x00080020, 0x00081030))
    return study.uid[0], date, description, str(study.instances)


def _extent(plan: Plan) -> str:
    instances = f"{plan.instances} {'instance' if plan.instances == 1 else 'instances'}"
    return f"{instances} of {plan.studies} {'study' if plan.studies == 1 else 'studies'}"


def _to_json(plan: Plan, fact: Fact) -> dict[str, object]:
    from storage_node.catalogue.correctable import keyword

    return {
        "changes": [
            {
                "tag": f"{change.tag:08X}",
                "keyword": keyword(change.tag),
                "before": change.before,
                "after": change.after,
            }
            for change in plan.changes
        ],
        "studies": plan.studies,
        "instances": plan.instances,
        "moved": [study.uid[0] for study in plan.moved],
        "epoch": fact.epoch,
        "digest": fact.digest,
    }
