"""`atria history`."""

from __future__ import annotations

import itertools
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.nouns import Level
from deploy.command import options, planned
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance
    from cluster.settings import Settings
    from storage_node.upkeep.history import Decided, History

Uid = Annotated[
    str | None,
    typer.Argument(metavar="UID", help="Study, Series or SOP Instance UID.", show_default=False),
]


def command(
    uid: Uid = None,
    patient: planned.Patient = None,
    issuer: planned.Issuer = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show what was decided about something, in it and above it: by whom, from where, when and why.

    Exits 1 when nothing was.

    [bold]Examples[/]

      atria history 1.2.826.0.1.3680043.8.498.1

      atria history --patient 4711 --json
    """
    if (uid is None) is (patient is None):
        raise UserError("name one thing: a UID, or --patient ID")
    found = run(_history(Overrides(config, data).settings(), uid, patient, issuer))
    for site in found.silent:
        print(f"atria: site {site} does not answer: it may know more", file=sys.stderr)
    if as_json:
        print(json.dumps([_to_json(decided) for decided in found.decided]))
    else:
        _print(found)
    if not found.decided:
        raise typer.Exit(1)


async def _history(settings: Settings, uid: str | None, patient: str | None, issuer: str | None) -> History:
    from deploy import compose
    from storage_node.grid.find import NoCatalogue
    from storage_node.grid.write import NotEnoughSites
    from storage_node.upkeep.history import history, history_of_patient

    async with compose.running_grid(settings) as grid:
        try:
            if uid is not None:
                return await history(grid, uid)
            return await history_of_patient(grid, patient or "", issuer)
        except (NoCatalogue, NotEnoughSites) as error:
            raise UserError(f"no catalogue answers: {error}") from error


def _print(found: History) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("when", "what", "of", "by", "why", "known at", box=box.SIMPLE_HEAD)
    for _, alike in itertools.groupby(found.decided, _decision):
        first, *others = alike
        fact = first.fact
        row = (
            f"{fact.decided_at:%Y-%m-%d %H:%M:%S}",
            _what(fact),
            f"{1 + len(others)} instances" if others else _subject(fact.instance),
            fact.decided_by,
            fact.reason,
            ", ".join(first.sites),
        )
        table.add_row(*map(escape, row), style=None if first.holds else "dim")
    console().print(table if found.decided else "Nothing was decided.")


def _decision(decided: Decided) -> tuple[object, ...]:
    """Return what decisions about instances have in common that are shown as one; others are one each."""
    fact = decided.fact
    if fact.instance.level is not Level.IMAGE:
        return (fact.digest,)
    return fact.kind, fact.details, fact.decided_by, fact.reason, decided.holds, decided.sites


def _what(fact: Fact) -> str:
    if fact.kind == "corrected" and not fact.details:
        return "corrections taken back"
    details = ", ".join(f"{_name(name)}={text}" for name, text in fact.details)
    return f"{fact.kind} {details}".strip()


def _name(detail: str) -> str:
    from storage_node.catalogue.correctable import keyword

    try:
        return keyword(int(detail, 16)) if len(detail) == 8 else detail
    except ValueError:
        return detail


def _subject(instance: Instance) -> str:
    level = str(instance.level).lower()
    if "\n" in instance.study_instance_uid:
        patient_id, _, issuer = instance.study_instance_uid.partition("\n")
        return f"{level} {patient_id}{f' ({issuer})' if issuer else ''}"
    return (
        f"{level} {instance.sop_instance_uid or instance.series_instance_uid or instance.study_instance_uid}"
    )


def _to_json(decided: Decided) -> dict[str, object]:
    fact = json.loads(decided.fact.to_json())
    subject = fact.pop("instance")
    return {
        "subject": {"level": decided.fact.instance.level, **subject},
        **fact,
        "holds": decided.holds,
        "sites": decided.sites,
    }
