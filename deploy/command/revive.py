"""`atria revive`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.nouns import FactKind
from deploy.command import deciding, options
from deploy.overrides import Overrides

Reason = Annotated[str, typer.Option("--reason", help="Why: it is kept with the decision.")]


def command(
    uids: deciding.Uids,
    reason: Reason = "revived by hand",
    yes: deciding.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take back what [bold]atria delete[/] did to studies, series or instances.

    [bold]Examples[/]

      atria revive 1.2.826.0.1.3680043.8.498.1
    """
    settings = Overrides(config, data).settings()
    deciding.decide(settings, uids, FactKind.REVIVED, reason=reason, yes=yes, as_json=as_json)
