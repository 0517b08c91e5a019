"""`atria delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.nouns import FactKind
from deploy.command import deciding, options, selecting
from deploy.overrides import Overrides

SkipRetained = Annotated[
    bool, typer.Option("--skip-retained", help="Delete what is not under retention, and leave the rest.")
]


def command(
    reason: selecting.Reason,
    uids: selecting.Uids = None,
    patient: selecting.Patients = None,
    accession: selecting.AccessionNumbers = None,
    skip_retained: SkipRetained = False,
    yes: options.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take patients, studies, series or instances out of all answers.

    What is concerned is shown first. Its bytes stay for a time ([bold]trash_days[/] in the settings): until
    then [bold]atria undelete[/] takes it back. What is under retention is not deleted.

    [bold]Examples[/]

      atria delete 1.2.826.0.1.3680043.8.498.1 --reason "wrong patient"

      atria delete --patient "4711^HOSPITAL" --reason "asked to be forgotten"
    """
    settings = Overrides(config, data).settings()
    deciding.decide(
        settings,
        selecting.selection(uids, patient, accession),
        FactKind.DELETED,
        reason=reason,
        yes=yes,
        as_json=as_json,
        skip_retained=skip_retained,
    )
