"""The servers that a one-host cluster runs for its sites: which they are is kept in its data folder.

Each server's port is kept, and chosen anew at the next start if somebody has it: what a site is does
not depend on it.
"""

from __future__ import annotations

import abc
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from cluster.durable import replace_durably
from deploy.errors import UserError
from deploy.server import Server, free_port, is_free

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.settings import Settings

NAMES: Final = ("a", "b", "c")
"""The sites."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that lives."""

    name: str
    server: Server
    pid: int
    started_at: datetime


class OwnServers(abc.ABC):
    """The servers of one product, one for each site."""

    NAME: ClassVar[str]
    """Of the product, as it stands in the names of files and processes."""
    OPTION: ClassVar[str]
    """What chooses them on the command line."""
    KEPT_IN: ClassVar[str]
    """What of a cluster is in them, for messages."""
    OR_ELSE: ClassVar[str]
    """Where it is otherwise, for messages."""

    @abc.abstractmethod
    def find_program(self, settings: Settings) -> None:
        """Find out whether there is a program to run them.

        Raises
        ------
        UserError
            There is none.
        """

    @abc.abstractmethod
    def tables(self, data_folder: Path, ports: Mapping[str, int]) -> dict[str, dict[str, object]]:
        """Return what the settings would say of each site of such servers, by the site's name."""

    @abc.abstractmethod
    def servers(self, settings: Settings, ports: Mapping[str, int]) -> dict[str, Server]:
        """Return the servers, by the sites' names.

        Raises
        ------
        UserError
            What is kept of them cannot be read.
        """

    def ports(self, data_folder: Path) -> dict[str, int] | None:
        """Return the ports that are kept in a data folder; None where there are no such servers.

        Raises
        ------
        UserError
            What is kept is damaged.
        """
        file = self._file(data_folder)
        try:
            ports = json.loads(file.read_text("utf-8"))["ports"]
            return {name: int(ports[name]) for name in NAMES}
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error!r}): put a good copy back") from error

    def keep_free_ports(self, data_folder: Path) -> None:
        """Keep ports that are free now: those that were kept, where they are. By one process at a time.

        Raises
        ------
        UserError
            The data folder cannot be written.
        """
        file = self._file(data_folder)
        ports = self.ports(data_folder)
        free = {name: _free_port((ports or {}).get(name)) for name in NAMES}
        try:
            data_folder.mkdir(parents=True, exist_ok=True)
            if free != ports:
                replace_durably(file, json.dumps({"ports": free}, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}") from error

    def _file(self, data_folder: Path) -> Path:
        return data_folder / f"{self.NAME}.json"


def pid_file(settings: Settings, name: str) -> Path:
    """Return where the supervisor notes the process id of a server."""
    return settings.data_folder / f"{name}.pid"


def as_running(settings: Settings, name: str, server: Server) -> RunningServer | None:
    """Return a server if it lives, whether it answers or not."""
    file = pid_file(settings, name)
    try:
        pid = int(file.read_text("ascii"))
        started_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):  # it never ran, or does no more
        return None
    is_it = os.fsencode(server.folder) in command  # and not another that was given its number since
    return RunningServer(name, server, pid, started_at) if is_it else None


def _free_port(kept: int | None) -> int:
    return kept if kept and is_free(kept) else free_port()
