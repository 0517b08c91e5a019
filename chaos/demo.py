"""`atria demo`: the main promise, shown on real images in about a minute."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console

Keep = Annotated[
    Path | None, typer.Option("--keep", metavar="DIR", help="Work in this new folder, and leave it there.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Taken:
    """One step that was taken, and what came of it."""

    done: str
    outcome: str
    held: bool
    seconds: float


def command(keep: Keep = None, as_json: AsJson = False) -> None:
    """Send real images, kill a worker, lose two of three sites, get everything back.

    It starts a cluster of its own in a temporary folder, on free ports of the loopback interface, and
    ends with a table of what happened. Exits 0 only when everything that it shows held.

    [bold]Examples[/]

      atria demo
    """
    from rich.console import Console

    from deploy.command.run import run

    console = Console(stderr=as_json)
    with tempfile.TemporaryDirectory(prefix="atria-demo-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        taken, held = run(_run(folder, console))
    if as_json:
        print(json.dumps({"held": held, "steps": [asdict(step) for step in taken]}))
    else:
        _print_table(console, taken, held=held)
    if not held:
        raise typer.Exit(1)


async def _run(folder: Path, console: Console) -> tuple[list[Taken], bool]:
    """Take all steps, until one does not hold."""
    from chaos.host import Host
    from chaos.story import Story

    host = Host(folder / "cluster")
    taken: list[Taken] = []
    try:
        for done, step in Story(host, folder).steps():
            taken.append(await _take(console, done, step))
            if not taken[-1].held:
                return taken, False
    finally:
        await host.end()
    return taken, True


async def _take(console: Console, done: str, step: Callable[[], Awaitable[str]]) -> Taken:
    from chaos.host import HostFailed
    from chaos.story import NotHeld
    from deploy.errors import UserError

    began = time.monotonic()
    with console.status(f"{done} …"):
        try:
            outcome, held = await step(), True
        except (NotHeld, HostFailed, UserError, OSError) as error:
            outcome, held = str(error), False
    mark = "[green]✓[/]" if held else "[red]✗[/]"
    console.print(f"{mark} {done}: [dim]{outcome}[/]", highlight=False)
    return Taken(done, outcome, held, round(time.monotonic() - began, 2))


def _print_table(console: Console, taken: list[Taken], *, held: bool) -> None:
    from rich.table import Table

    table = Table("", "what was done", "what came of it", "s")
    for step in taken:
        mark = "[green]held[/]" if step.held else "[red]NOT HELD[/]"
        table.add_row(mark, step.done, step.outcome, f"{step.seconds:.1f}")
    console.print(table)
    if held:
        console.print("[bold green]Nothing that was acknowledged was lost, or out of reach.[/]")
