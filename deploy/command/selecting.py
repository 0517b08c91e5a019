"""How commands are told which studies, series and instances are meant, and how they show them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from deploy.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from cluster.settings import Settings
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.selecting import Described, Selection, Target

Uids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[UID]…", help="Study, Series or SOP Instance UIDs.", show_default=False),
]
Patients = Annotated[
    list[str] | None,
    typer.Option(
        "--patient",
        metavar="ID[^ISSUER]",
        help="All studies of a patient; of whatever issuer, if none is given.",
        show_default=False,
    ),
]
AccessionNumbers = Annotated[
    list[str] | None,
    typer.Option(
        "--accession",
        metavar="NUMBER",
        help="All studies with this accession number.",
        show_default=False,
    ),
]
Reason = Annotated[
    str, typer.Option("--reason", help="Why: it is kept with the decision.", show_default=False)
]

SHOWN: Final = 20
"""Lines of a table that is shown before a question; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What a command line names."""

    targets: list[Target]
    nothing: list[str]
    """What of it stands for nothing that is known."""


def selection(
    uids: list[str] | None, patients: list[str] | None, accession_numbers: list[str] | None
) -> Selection:
    """Return what a command line names.

    Raises
    ------
    UserError
        It names nothing.
    """
    from storage_node.upkeep.selecting import Selection

    if not (uids or patients or accession_numbers):
        raise UserError("name what is meant: UIDs, --patient ID[^ISSUER], or --accession NUMBER")
    return Selection(uids or (), patients or (), accession_numbers or ())


async def select(grid: Grid, of: Selection) -> Selected:
    """Look for what is named."""
    from storage_node.upkeep.selecting import targets

    return Selected(*await targets(grid, of))


@asynccontextmanager
async def grid_of(settings: Settings) -> AsyncIterator[Grid]:
    """Run the grid for as long as the context lasts.

    Raises
    ------
    UserError
        No catalogue answers, or not enough of them.
    """
    from deploy import compose
    from storage_node.grid.find import NoCatalogue
    from storage_node.grid.write import NotEnoughSites

    async with compose.running_grid(settings) as grid:
        try:
            yield grid
        except (NoCatalogue, NotEnoughSites) as error:
            raise UserError(f"the catalogues do not answer: {error}") from error


def table(*columns: str) -> Table:
    """Return a table whose first columns tell a study."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD)
    for column in ("patient", "date", "description", "study", *columns):
        shown.add_column(column, overflow="fold")
    return shown


def told_by(described: Described, study_instance_uid: str) -> tuple[str, ...]:
    """Return the first columns of a line of such a table."""
    from rich.markup import escape

    texts = (described.patient, described.study_date, described.description, study_instance_uid)
    return tuple(map(escape, texts))


def size(size_bytes: int) -> str:
    """Return a size for people."""
    from rich.filesize import decimal

    return decimal(size_bytes)


def number(count: int, noun: str) -> str:
    """Return a number of things, in words."""
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
