"""`atria find`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

    from cluster.settings import Settings

Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY[=VALUE]", help="Keys by keyword: PatientID=…, StudyDate=20200101-, Modality."
    ),
]
Level = Annotated[
    Literal["patient", "study", "series", "image"],
    typer.Option(case_sensitive=False, help="What to find (Query/Retrieve Level)."),
]
Model = Annotated[
    Literal["study", "patient"] | None,
    typer.Option(
        case_sensitive=False,
        help="Root of the information model.",
        show_default="study; at patient level, which study has not: patient",
    ),
]


def command(
    keys: Keys = None,
    level: Level = "study",
    model: Model = None,
    to: options.To = None,
    called: options.Called = None,
    calling: options.Calling = "ATRIA-SCU",
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    r"""Find patients, studies, series or images (C-FIND).

    A value may be a list of UIDs (1.2\1.3), have wild cards (Dup*), or be a range
    (20200101-20201231). A key without a value is shown, and matches everything. Below study level the UIDs
    above must be given.

    [bold]Examples[/]

      atria find

      atria find PatientID=12345 StudyDate=20200101- AccessionNumber

      atria find --level series StudyInstanceUID=1.2.3 --json
    """
    settings = Overrides(config, data).settings()
    root = model or ("patient" if level == "patient" else "study")
    found = run(_find(settings, keys or [], level.upper(), root, to, called, calling))
    if as_json:
        print(json.dumps([match.to_json_dict() for match in found]))
    else:
        _print_table(found)


async def _find(
    settings: Settings,
    words: list[str],
    level: str,
    model: str,
    to: str | None,
    called: str | None,
    calling: str,
) -> list[Dataset]:
    from cluster.dicom.faults import AssociationEnded
    from deploy.client.find import find, open_finder, parse_keys
    from deploy.client.peer import resolve

    keys = parse_keys(words)
    peer = await resolve(settings, to, called, calling)
    try:
        async with await open_finder(peer, model) as association:
            return [match async for match in find(association, model, level, keys, _note)]
    except AssociationEnded as error:
        raise UserError(f"{peer}: {error}, before all answers came: try again") from error


def _note(comment: str) -> None:
    print(f"atria: {comment}", file=sys.stderr)


_HIDDEN = ("QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle", "InstanceAvailability")


def _print_table(found: Sequence[Dataset]) -> None:
    from rich.table import Table

    keywords = list(dict.fromkeys(element.keyword for match in found for element in match))
    shown = [keyword for keyword in keywords if keyword and keyword not in _HIDDEN]
    table = Table(title=f"{len(found)} found", title_justify="left")
    for keyword in shown:
        table.add_column(keyword, overflow="fold")  # a UID that is cut is of no use
    for match in found:
        table.add_row(*(_text(match, keyword) for keyword in shown))
    console().print(table if found else "nothing found")


def _text(match: Dataset, keyword: str) -> str:
    from pydicom.multival import MultiValue

    value = match.get(keyword)
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
