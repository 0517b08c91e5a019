"""`atria correct`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cluster.nouns import Level
from deploy.command import options, planned
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage_node.grid.grid import Grid
    from storage_node.upkeep.correcting import Plan
    from storage_node.upkeep.subjects import Subject

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STUDY_UID] KEYWORD=VALUE…",
        help="The study, and what is right, by keyword or tag. An empty value takes one away.",
        show_default=False,
    ),
]
Series = Annotated[
    str | None, typer.Option("--series", metavar="UID", help="Correct a series.", show_default=False)
]
Undo = Annotated[
    bool, typer.Option("--undo", help="Take corrections back: of the attributes that are named, or all.")
]


def command(
    reason: planned.Reason,
    words: Words = None,
    patient: planned.Patient = None,
    issuer: planned.Issuer = None,
    series: Series = None,
    undo: Undo = False,
    yes: options.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Correct what is answered of a study, a patient ([bold]--patient[/]) or a series ([bold]--series[/]).

    What is stored stays as it is: answers, and copies on their way out, have what was corrected. A study with
    another PatientID belongs to that patient, and gets his name, birth date and sex if they are known.

    [bold]Examples[/]

      atria correct 1.2.826.0.1.3680043.8.498.1 PatientID=4711 --reason "wrong patient chosen"

      atria correct --patient 4711 PatientName="Doe^Jane" PatientBirthDate=19700131 --reason "misspelt"

      atria correct --series 1.2.826.0.1.3680043.8.498.2 Modality=MR --reason "wrong protocol"

      atria correct 1.2.826.0.1.3680043.8.498.1 --undo --reason "it was right"
    """
    settings = Overrides(config, data).settings()
    level, uid, given = told(words or [], patient, issuer, series, undo=undo)

    async def planning(grid: Grid) -> Plan:
        from storage_node.catalogue.correctable import attribute, corrections_of
        from storage_node.upkeep import correcting, subjects

        async def subject() -> Subject:
            match level:
                case Level.PATIENT:
                    return await subjects.patient(grid, patient or "", issuer)
                case Level.SERIES:
                    return await subjects.series(grid, series or "", uid)
                case _:
                    return await subjects.study(grid, uid or "")

        if undo:
            tags = [attribute(word, level) for word in given]
            return await correcting.undoing(grid, await subject(), tags)
        texts = corrections_of(given, level)
        return await correcting.correction(grid, await subject(), texts)

    planned.decide(settings, planning, reason=reason, yes=yes, as_json=as_json)


def told(
    words: Sequence[str], patient: str | None, issuer: str | None, series: str | None, *, undo: bool
) -> tuple[Level, str | None, Sequence[str]]:
    """Return what is to be corrected, the UID of a study if one is named, and what of it.

    Raises
    ------
    UserError
        It is not clear what is meant.
    """
    if patient is not None and series is not None:
        raise UserError("name a patient or a series, not both")
    if issuer is not None and patient is None:
        raise UserError("--issuer goes with --patient; of a study give IssuerOfPatientID=…")
    level = Level.PATIENT if patient is not None else Level.SERIES if series is not None else Level.STUDY
    uid, given = None, list(words)
    if level is Level.STUDY or (level is Level.SERIES and given and _is_uid(given[0])):
        if not given or "=" in given[0]:
            raise UserError("name the study by its Study Instance UID, or say --patient or --series")
        uid, *given = given
    if not given and not undo:
        raise UserError("say what is right, as KEYWORD=VALUE")
    return level, uid, given


def _is_uid(word: str) -> bool:
    return "=" not in word and "." in word
