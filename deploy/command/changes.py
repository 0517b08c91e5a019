"""`atria changes`."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import SiteFailed
    from storage_node.upkeep.changes import Following, Told

Site = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Whose changes to show.", show_default="the first site of the settings"
    ),
]
After = Annotated[
    str | None,
    typer.Option(
        metavar="CURSOR",
        help="Go on after this, which was printed before; one that is not of this site is the beginning.",
        show_default="the beginning",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as changes come, until Ctrl-C.")]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many lines.")]
Complete = Annotated[
    bool, typer.Option("--complete", help="Say also which studies are complete: nothing new came for a time.")
]


def command(
    site: Site = None,
    after: After = None,
    follow: Follow = False,
    limit: Limit = None,
    complete: Complete = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show what came to a site, in the order in which it came there: images, and what was decided.

    Each site has a sequence of its own. Who goes on after the cursor that he was given last is shown
    everything at least once. With --json each line is an object that has its cursor; null is the beginning.

    [bold]Examples[/]

      atria changes --limit 20

      atria changes --follow --complete --json
    """
    settings = Overrides(config, data).settings()
    names = [one.name for one in settings.sites]
    name = site or names[0]
    if name not in names:
        raise UserError(f"there is no site {name}: choose one of {', '.join(names)} (--site)")
    out = _Output(limit, as_json=as_json)
    try:
        run(_show(settings, name, after, out, follows=follow, complete=complete))
    except KeyboardInterrupt:
        if not follow:
            raise
    if not as_json:
        out.end(name)


class _Output:
    """Prints each event when it comes, so that who reads from a pipe has it at once."""

    def __init__(self, limit: int | None, *, as_json: bool) -> None:
        self._limit = limit
        self._as_json = as_json
        self._lines = 0
        self._cursor: str | None = None
        self._is_away = False

    @property
    def is_full(self) -> bool:
        """Whether as much was printed as was asked for."""
        return self._lines == self._limit

    def show(self, told: Told) -> None:
        """Print an event."""
        from deploy.command.change_entries import entry, line

        print(json.dumps(entry(told)) if self._as_json else line(told), flush=True)
        self._lines += 1
        self._cursor = told.cursor

    def note(self, failed: SiteFailed | None) -> None:
        """Say once that the site is away, and once that it is back."""
        if failed is not None and not self._is_away:
            print(f"atria: {failed}: going on when it is back", file=sys.stderr, flush=True)
        elif failed is None and self._is_away:
            print("atria: it is back", file=sys.stderr, flush=True)
        self._is_away = failed is not None

    def end(self, site: str) -> None:
        """Print how to go on."""
        if not self._lines:
            print("Nothing came.")
        elif self._cursor is not None:
            print(f"Go on with: atria changes --site {site} --after {self._cursor}")


async def _show(
    settings: Settings, site: str, after: str | None, out: _Output, *, follows: bool, complete: bool
) -> None:
    from deploy import compose
    from storage_node.upkeep.changes import Following, follow

    complete_after_s = settings.changes.study_complete_after_s if complete else None
    following = Following(after, complete_after_s=complete_after_s)
    async with compose.running_grid(settings) as grid:
        if not follows:
            await _show_to_end(grid, site, following, out)
            return
        interval_s = settings.changes.poll_interval_s
        stream = follow(grid, site, following, poll_interval_s=interval_s, noted=out.note)
        async with aclosing(stream):
            async for told in stream:
                out.show(told)
                if out.is_full:
                    return


async def _show_to_end(grid: Grid, site: str, following: Following, out: _Output) -> None:
    from storage_node.grid.sites import SiteFailed
    from storage_node.upkeep.changes import read

    while not following.at_end:
        try:
            page = await read(grid, site, following)
        except SiteFailed as error:
            raise UserError(f"{error}: try again, or read those of another (--site)") from error
        for told in page:
            out.show(told)
            if out.is_full:
                return
