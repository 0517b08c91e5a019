"""`atria accept`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options, rejections
from deploy.command.console import console
from deploy.command.run import run
from deploy.command.who import account
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.nouns import Fact
    from cluster.settings import Settings
    from storage_node.upkeep.rejections import Accepted

Uids = Annotated[
    list[str],
    typer.Argument(
        metavar="UID…",
        help="Study, Series or SOP Instance UIDs of what was rejected, or of the notes that did.",
        show_default=False,
    ),
]
Reason = Annotated[
    str, typer.Option("--reason", help="Why: it is kept with the decision.", show_default=False)
]


def command(
    uids: Uids,
    reason: Reason,
    yes: options.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Put back into answers what a rejection note took out: studies, series, instances, or all of a note.

    The same note does not reject it again; another one does. What was deleted stays so. Exits 1 when not all
    could be decided about.

    [bold]Examples[/]

      atria accept 1.2.826.0.1.3680043.8.498.1 --reason "the images are right"
    """
    settings = Overrides(config, data).settings()
    rejected = run(rejections.holding(settings, uids))
    if not rejected:
        raise UserError(f"nothing of {', '.join(uids)} is rejected")
    plural = "" if len(rejected) == 1 else "s"
    if not yes and not typer.confirm(f"{len(rejected)} instance{plural} will be accepted. Go on?", err=True):
        raise typer.Exit(1)
    accepted = run(_accept(settings, rejected, reason))
    if as_json:
        counts = {"accepted": len(accepted.facts), "of": len(rejected), "refused": accepted.refused}
        print(json.dumps(counts))
    else:
        console().print(f"{len(accepted.facts)} of {len(rejected)} instance{plural} are accepted.")
        for why in accepted.refused:
            console().print(f"[red]Not decided: {why}[/]")
    if accepted.refused:
        raise typer.Exit(1)


async def _accept(settings: Settings, rejected: Sequence[Fact], reason: str) -> Accepted:
    from deploy import compose
    from deploy.command.progress import bar
    from storage_node.upkeep.rejections import accept

    async with compose.running_grid(settings) as grid:
        with bar("accepted") as progress:
            return await accept(grid, rejected, by=account(), reason=reason, progress=progress)
