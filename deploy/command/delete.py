"""`atria delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.nouns import FactKind
from deploy.command import deciding, options
from deploy.overrides import Overrides

Reason = Annotated[
    str, typer.Option("--reason", help="Why: it is kept with the decision.", show_default=False)
]


def command(
    uids: deciding.Uids,
    reason: Reason,
    yes: deciding.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take studies, series or instances out of all answers.

    Their bytes stay; [bold]atria revive[/] takes it back. An instance that is sent again is in answers again.

    [bold]Examples[/]

      atria delete 1.2.826.0.1.3680043.8.498.1 --reason "wrong patient"
    """
    settings = Overrides(config, data).settings()
    deciding.decide(settings, uids, FactKind.DELETED, reason=reason, yes=yes, as_json=as_json)
