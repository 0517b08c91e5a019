"""`atria rejections`."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cluster.nouns import Fact
    from cluster.settings import Settings

Uids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[UID]…",
        help="Study, Series or SOP Instance UIDs of what was rejected, or of the notes; all without any.",
        show_default=False,
    ),
]


def command(
    uids: Uids = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """List what rejection notes have hidden, note by note; with [bold]--json[/] each instance.

    [bold]atria accept[/] takes it back.

    [bold]Examples[/]

      atria rejections

      atria rejections 1.2.826.0.1.3680043.8.498.1 --json
    """
    found = run(holding(Overrides(config, data).settings(), uids or ()))
    if as_json:
        print(json.dumps([_entry(fact) for fact in found]))
    elif not found:
        console().print("Nothing is rejected.")
    else:
        _print(found)


async def holding(settings: Settings, uids: Collection[str]) -> list[Fact]:
    """Return the rejections that hold of what is named.

    Raises
    ------
    UserError
        No catalogue answers.
    """
    from deploy import compose
    from storage_node.grid.write import NotEnoughSites
    from storage_node.upkeep.rejections import rejections

    async with compose.running_grid(settings) as grid, aclosing(rejections(grid, uids)) as facts:
        try:
            return [fact async for fact in facts]
        except NotEnoughSites as error:
            raise UserError(f"no catalogue answers: {error}") from error


def _entry(fact: Fact) -> dict[str, str | None]:
    return {
        "study_instance_uid": fact.instance.study_instance_uid,
        "series_instance_uid": fact.instance.series_instance_uid,
        "sop_instance_uid": fact.instance.sop_instance_uid,
        "code": fact.detail("code"),
        "note": fact.detail("note"),
        "reason": fact.reason,
        "decided_by": fact.decided_by,
        "decided_at": fact.decided_at.isoformat(),
    }


def _print(found: Sequence[Fact]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("study", "instances", "why", "by", "when", "note", box=box.SIMPLE_HEAD)
    instances: Counter[tuple[str, str | None]] = Counter()
    latest: dict[tuple[str, str | None], Fact] = {}
    for fact in found:
        of = fact.instance.study_instance_uid, fact.detail("note")
        instances[of] += 1
        latest[of] = fact
    for of, fact in latest.items():
        when = f"{fact.decided_at:%Y-%m-%d %H:%M:%S}"
        why = escape(f"{fact.reason} ({fact.detail('code')})")
        table.add_row(of[0], str(instances[of]), why, escape(fact.decided_by), when, of[1] or "")
    console().print(table)
