"""How commands get to know the cluster that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.overrides import Overrides

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.settings import Settings


def settings_of(config: Path | None, data: Path | None) -> Settings:
    """Return the settings of a cluster, and see to it that its record on this host is as new as can be had.

    Raises
    ------
    UserError
        The file, or an option, is not what is expected; or the record is not of that cluster.
    """
    from deploy import shared_record
    from deploy.command.run import run

    settings = Overrides(config, data).settings()
    if settings.etcd.endpoints:
        run(shared_record.refresh(settings))
    return settings
