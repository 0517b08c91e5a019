"""`atria undelete`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.nouns import FactKind
from deploy.command import deciding, options, selecting
from deploy.overrides import Overrides

Reason = Annotated[str, typer.Option("--reason", help="Why: it is kept with the decision.")]


def command(
    uids: selecting.Uids = None,
    patient: selecting.Patients = None,
    accession: selecting.AccessionNumbers = None,
    reason: Reason = "taken back by hand",
    yes: options.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take back what [bold]atria delete[/] did, as long as it is in the trash ([bold]atria trash[/]).

    [bold]Examples[/]

      atria undelete 1.2.826.0.1.3680043.8.498.1

      atria undelete --accession A4711
    """
    settings = Overrides(config, data).settings()
    of = selecting.selection(uids, patient, accession)
    deciding.decide(settings, of, FactKind.REVIVED, reason=reason, yes=yes, as_json=as_json)
