"""PostgreSQL servers of a one-host cluster: a database for each site's catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy import postgresql_programs
from deploy.errors import UserError
from deploy.own_servers import OwnServers
from deploy.postgresql import PostgresqlServer, kept_password

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cluster.settings import Settings
    from deploy.server import Server

DATABASE: Final = "postgres"
"""The one that every new server has."""

_PASSFILE: Final = "postgresql-passfile"


class PostgresqlSites(OwnServers):
    """What `atria up --catalogue postgresql` runs."""

    NAME = "postgresql"
    OPTION = "--catalogue"
    KEPT_IN = "its catalogues in PostgreSQL servers"
    OR_ELSE = "its catalogues in files"

    def find_program(self, settings: Settings) -> None:
        """Find out whether there is a program to run them, and whether it can be run in the data folder.

        Raises
        ------
        UserError
            There is none, or it cannot.
        """
        postgresql_programs.find_binaries()
        if (account := postgresql_programs.account()) is not None:
            postgresql_programs.refuse_impassable(settings.data_folder, account)

    def tables(self, data_folder: Path, ports: Mapping[str, int]) -> dict[str, dict[str, object]]:
        """Return what the settings would say of each site of such servers, by the site's name."""
        return {
            name: {"catalogue": server.url(DATABASE), "catalogue_passfile": server.passfile}
            for name, server in _servers(data_folder, ports).items()
        }

    def servers(self, settings: Settings, ports: Mapping[str, int]) -> dict[str, Server]:
        """Return the servers, by the sites' names.

        Raises
        ------
        UserError
            Their password cannot be read.
        """
        file = settings.data_folder / _PASSFILE
        try:
            kept_password(file)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{file} is no password file of libpq ({error}): put a good copy back") from error
        return {**_servers(settings.data_folder, ports)}


def _servers(data_folder: Path, ports: Mapping[str, int]) -> dict[str, PostgresqlServer]:
    passfile = data_folder / _PASSFILE
    return {
        name: PostgresqlServer(data_folder / f"site-{name}" / "postgresql", port, passfile=passfile)
        for name, port in ports.items()
    }
