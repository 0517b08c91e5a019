"""How commands get to know the cluster that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.settings import Settings


def settings_of(config: Path | None, data: Path | None, *, may_be_new: bool = False) -> Settings:
    """Return the settings of a cluster, and see to it that its record on this host is as new as can be had.

    Parameters
    ----------
    config, data : Path or None
        The options.
    may_be_new : bool
        Whether the data folder need not be there yet, as the command makes the cluster.

    Raises
    ------
    UserError
        The file, or an option, is not what is expected; there is no such cluster; or the record is not of
        that cluster.
    """
    from deploy import shared_record
    from deploy.command.run import run

    settings = Overrides(config, data).settings() if may_be_new else existing(config, data)
    if settings.etcd.endpoints:
        run(shared_record.refresh(settings))
    return settings


def existing(config: Path | None, data: Path | None) -> Settings:
    """Return the settings of a cluster that is there: a folder that was mistyped is not made one by a look.

    Raises
    ------
    UserError
        The file, or an option, is not what is expected; or there is no such cluster.
    """
    from deploy import record

    settings = Overrides(config, data).settings()
    if not settings.etcd.endpoints:
        record.known(settings)
    elif data is not None:  # else a host gets its folder, and what is in it, when it first asks etcd
        must_be_there(settings)
    return settings


def must_be_there(settings: Settings) -> None:
    """Look whether there is a data folder.

    Raises
    ------
    UserError
        There is none.
    """
    if not settings.data_folder.is_dir():
        raise UserError(
            f"there is no folder {settings.data_folder}: name the cluster's (--data, or data_folder in the"
            " settings), or start a cluster there with `atria up`"
        )
