"""What a one-host cluster's sites are made of: folders and files, or servers of its own.

Who reads the settings of its data folder finds the sites that are kept there, unless they name others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy import record
from deploy.errors import UserError
from deploy.minio_sites import MinioSites
from deploy.own_servers import NAMES, RunningServer, as_running
from deploy.postgresql_sites import PostgresqlSites

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cluster.settings import Settings
    from deploy.own_servers import OwnServers
    from deploy.server import Server

MINIO: Final = MinioSites()
POSTGRESQL: Final = PostgresqlSites()


def choose(settings: Settings, *, minio: bool | None = None, postgresql: bool | None = None) -> bool:
    """Have the data folder's cluster keep its sites in servers, at ports that are free now, where it is to.

    To be called by one process at a time, before the servers are started.

    Parameters
    ----------
    settings : Settings
    minio, postgresql : bool or None
        Whether it is to have such servers; None for as it is.

    Returns
    -------
    bool
        Whether there are such servers: the settings are to be read again.

    Raises
    ------
    UserError
        There is no program to run them; the settings, or the cluster that is there, have other sites; or the
        data folder cannot be written.
    """
    wanted = {MINIO: minio, POSTGRESQL: postgresql}
    chosen = [own for own, is_wanted in wanted.items() if _is_chosen(settings, own, is_wanted)]
    for own in chosen:
        own.find_program(settings)
    for own in chosen:
        own.keep_free_ports(settings.data_folder)
    return bool(chosen)


def tables(data_folder: Path) -> tuple[dict[str, object], ...]:
    """Return the sites of a data folder as the settings would name them; none where it has no servers.

    Raises
    ------
    UserError
        What is kept is damaged.
    """
    kept = [own.tables(data_folder, ports) for own, ports in _kept(data_folder)]
    if not kept:
        return ()
    sites: dict[str, dict[str, object]] = {
        name: {
            "name": name,
            "objects": f"file://{data_folder}/site-{name}/objects",
            "catalogue": f"sqlite:///{data_folder}/site-{name}/catalogue.sqlite",
        }
        for name in NAMES
    }
    return tuple(
        {key: value for table in (site, *(of[name] for of in kept)) for key, value in table.items()}
        for name, site in sites.items()
    )


def are_used(settings: Settings) -> bool:
    """Whether the settings' sites are those that the data folder keeps.

    Raises
    ------
    UserError
        What is kept is damaged.
    """
    kept = tables(settings.data_folder)
    return bool(kept) and tuple(site.model_dump(exclude_unset=True) for site in settings.sites) == kept


def servers(settings: Settings) -> Mapping[str, Server]:
    """Return the servers of the cluster's sites, by their names: none where its sites are others.

    Raises
    ------
    UserError
        What is kept cannot be read.
    """
    if not are_used(settings):
        return {}
    return {
        f"{own.NAME}-{site}": server
        for own, ports in _kept(settings.data_folder)
        for site, server in own.servers(settings, ports).items()
    }


def running(settings: Settings) -> tuple[RunningServer, ...]:
    """Return the servers that live, whether they answer or not.

    Raises
    ------
    UserError
        What is kept cannot be read.
    """
    found = (as_running(settings, name, server) for name, server in servers(settings).items())
    return tuple(one for one in found if one is not None)


def _is_chosen(settings: Settings, own: OwnServers, is_wanted: bool | None) -> bool:
    folder = settings.data_folder
    if "sites" in settings.model_fields_set and not are_used(settings):
        if is_wanted:
            raise UserError(
                f"the settings name the sites (sites): leave out {own.OPTION}, or have them name none"
            )
        return False
    is_kept = own.ports(folder) is not None
    if is_wanted is not None and is_wanted != is_kept and (is_kept or record.file_of(settings).exists()):
        raise UserError(
            f"the cluster in {folder} has {own.KEPT_IN if is_kept else own.OR_ELSE}: leave out {own.OPTION},"
            " or choose another folder (--data)"
        )
    return is_kept or bool(is_wanted)


def _kept(data_folder: Path) -> Iterator[tuple[OwnServers, dict[str, int]]]:
    for own in (MINIO, POSTGRESQL):
        if (ports := own.ports(data_folder)) is not None:
            yield own, ports
