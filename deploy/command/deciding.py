"""What `atria delete` and `atria revive` have in common."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.nouns import FactKind, Instance
    from cluster.settings import Settings
    from storage_node.upkeep.deciding import Decided

Uids = Annotated[
    list[str],
    typer.Argument(metavar="UID…", help="Study, Series or SOP Instance UIDs.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def decide(
    settings: Settings, uids: Sequence[str], kind: FactKind, *, reason: str, yes: bool, as_json: bool
) -> None:
    """Ask, decide, and say what came of it.

    The exit code is 1 where not all was decided, or a UID stands for nothing.

    Raises
    ------
    UserError
        There is no such instance, or no catalogue answers.
    """
    concerned = run(_concerned(settings, uids, kind))
    chosen = sorted({instance for found in concerned.values() for instance in found})
    nothing = [uid for uid, found in concerned.items() if not found]
    unknown = f"nothing of {', '.join(nothing)} can be {kind}: no such instance is known, or all are"
    if not chosen:
        raise UserError(unknown)
    if nothing:
        typer.echo(f"atria: {unknown}", err=True)
    studies = len({instance.study_instance_uid for instance in chosen})
    question = f"{_number(len(chosen), 'instance')} of {_number(studies, 'study')} will be {kind}. Go on?"
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    decided = run(_decide(settings, chosen, kind, reason=reason))
    if as_json:
        counts = {"decided": len(decided.facts), "of": len(chosen)}
        print(json.dumps({**counts, "refused": decided.refused, "nothing_of": nothing}))
    else:
        console().print(f"{len(decided.facts)} of {_number(len(chosen), 'instance')} are {kind}.")
        for why in decided.refused:
            console().print(f"[red]Not decided: {why}[/]")
    if decided.refused or nothing:
        raise typer.Exit(1)


def _number(number: int, noun: str) -> str:
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


async def _concerned(settings: Settings, uids: Sequence[str], kind: FactKind) -> dict[str, list[Instance]]:
    """Return what each UID stands for."""
    from deploy import compose
    from storage_node.grid.write import NotEnoughSites
    from storage_node.upkeep.deciding import concerned

    async with compose.running_grid(settings) as grid:
        try:
            return {uid: await concerned(grid, [uid], kind) for uid in uids}
        except NotEnoughSites as error:
            raise UserError(f"no catalogue answers: {error}") from error


async def _decide(settings: Settings, chosen: Sequence[Instance], kind: FactKind, *, reason: str) -> Decided:
    from deploy import compose
    from deploy.command.progress import bar
    from storage_node.upkeep.deciding import decide

    async with compose.running_grid(settings) as grid:
        with bar(f"{kind}") as progress:
            return await decide(grid, chosen, kind, by=getpass.getuser(), reason=reason, progress=progress)
