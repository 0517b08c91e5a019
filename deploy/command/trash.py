"""`atria trash`."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options, selecting
from deploy.command.console import console
from deploy.command.run import run
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings
    from storage_node.upkeep.trash import Trashed

Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Studies to list at most.")]
After = Annotated[
    str,
    typer.Option(
        "--after", metavar="UID", help="Go on behind this Study Instance UID.", show_default="from the first"
    ),
]


def command(
    limit: Limit = 100,
    after: After = "",
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """List what was deleted, study by study: by whom, why, and until when it can be taken back.

    [bold]Examples[/]

      atria trash

      atria trash --limit 1000 --json
    """
    found = run(_trash(Overrides(config, data).settings(), after, limit + 1))
    following = found[limit - 1].study_instance_uid if len(found) > limit else None
    page = found[:limit]
    if as_json:
        print(json.dumps({"studies": list(map(asdict, page)), "next_after": following}, default=_json))
        return
    _print(page)
    if following is not None:
        console().print(f"There is more: atria trash --after {following}")


async def _trash(settings: Settings, after: str, limit: int) -> list[Trashed]:
    from storage_node.upkeep.trash import trash

    found: list[Trashed] = []
    async with selecting.grid_of(settings) as grid, aclosing(trash(grid, after=after)) as studies:
        async for study in studies:
            found.append(study)
            if len(found) == limit:
                break
    return found


def _print(page: list[Trashed]) -> None:
    from rich.markup import escape

    if not page:
        console().print("The trash is empty.")
        return
    shown = selecting.table("instances", "size", "deleted", "by", "why", "can be taken back until")
    for of in page:
        shown.add_row(
            *selecting.told_by(of.described, of.study_instance_uid),
            str(of.instances),
            selecting.size(of.size_bytes),
            f"{of.deleted_at:%Y-%m-%d %H:%M}",
            escape(of.deleted_by),
            escape(of.reason),
            f"{of.until:%Y-%m-%d %H:%M}",
        )
    console().print(shown)


def _json(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
