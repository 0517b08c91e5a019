"""The one-host cluster whose sites are MinIO servers of its own: which they are is kept in its data folder.

Who reads the settings of such a data folder finds the sites that are kept there, unless the settings name
others. Each server's port is kept, and chosen anew at the next start if somebody has taken it: what a site is
does not depend on it.
"""

from __future__ import annotations

import configparser
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster.coordination.protocol import Address
from deploy import minio, record
from deploy.durable import replace_durably
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.settings import Settings

NAMES: Final = ("a", "b", "c")
BUCKET: Final = "atria"

_KEPT: Final = "minio.json"
_CREDENTIALS: Final = "minio-credentials"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that lives."""

    site: str
    address: Address
    pid: int
    started_at: datetime


def choose(settings: Settings) -> None:
    """Have the data folder's cluster keep its sites in MinIO servers, at ports that are free now.

    To be called by one process at a time, before the servers are started.

    Raises
    ------
    UserError
        There is no program to run them; the settings, or the cluster that is there, have other sites; or the
        data folder cannot be written.
    """
    folder = settings.data_folder
    minio.find_binary(settings.minio_binary)
    if "sites" in settings.model_fields_set and not are_used(settings):
        raise UserError("the settings name the sites (sites): leave out --sites, or have them name none")
    ports = _read(folder)
    if ports is None and record.file_of(settings).exists():
        raise UserError(
            f"the cluster in {folder} has its sites in folders: leave out --sites, or choose another folder"
            " (--data)"
        )
    free = {name: _free_port((ports or {}).get(name)) for name in NAMES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if free != ports:
            replace_durably(folder / _KEPT, json.dumps({"ports": free}, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {folder / _KEPT}: {error.strerror}") from error


def are_used(settings: Settings) -> bool:
    """Whether the settings' sites are those that the data folder keeps.

    Raises
    ------
    UserError
        What is kept is damaged.
    """
    kept = tables(settings.data_folder)
    return bool(kept) and tuple(site.model_dump(exclude_unset=True) for site in settings.sites) == kept


def tables(data_folder: Path) -> tuple[dict[str, object], ...]:
    """Return the sites of a data folder as the settings would name them; none where its sites are folders.

    Raises
    ------
    UserError
        What is kept is damaged.
    """
    return tuple(
        {
            "name": name,
            "objects": f"s3://{BUCKET}",
            "catalogue": f"sqlite:///{data_folder}/site-{name}/catalogue.sqlite",
            "endpoint": f"http://{minio.HOST}:{port}",
            "credentials_file": data_folder / _CREDENTIALS,
        }
        for name, port in (_read(data_folder) or {}).items()
    )


def servers(settings: Settings) -> Mapping[str, minio.MinioServer]:
    """Return the servers of the cluster's sites, by the sites' names: none where its sites are others.

    Raises
    ------
    UserError
        What is kept cannot be read.
    """
    ports = _read(settings.data_folder)
    if ports is None or not are_used(settings):
        return {}
    try:
        credentials = minio.RootCredentials.kept(settings.data_folder / _CREDENTIALS)
    except OSError as error:
        raise UserError(f"cannot read {settings.data_folder / _CREDENTIALS}: {error.strerror}") from error
    except (ValueError, KeyError, configparser.Error):  # what they say may quote the file
        file = settings.data_folder / _CREDENTIALS
        raise UserError(f"{file} is no AWS shared credentials file: put a good copy back") from None
    return {
        name: minio.MinioServer(
            _server_folder(settings, name), port, credentials, binary=settings.minio_binary
        )
        for name, port in ports.items()
    }


def running(settings: Settings) -> tuple[RunningServer, ...]:
    """Return the servers that live, whether they answer or not.

    Raises
    ------
    UserError
        What is kept cannot be read.
    """
    ports = _read(settings.data_folder)
    if ports is None or not are_used(settings):
        return ()
    found = (_running(settings, name, port) for name, port in ports.items())
    return tuple(server for server in found if server is not None)


def pid_file(settings: Settings, site: str) -> Path:
    """Return where the supervisor notes the process id of a site's server."""
    return settings.data_folder / f"minio-{site}.pid"


def _running(settings: Settings, site: str, port: int) -> RunningServer | None:
    file = pid_file(settings, site)
    try:
        pid = int(file.read_text("ascii"))
        started_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):  # it never ran, or does no more
        return None
    folder = os.fsencode(_server_folder(settings, site))
    is_it = folder in command  # and not another process that was given its number since
    return RunningServer(site, Address(minio.HOST, port), pid, started_at) if is_it else None


def _server_folder(settings: Settings, site: str) -> Path:
    return settings.data_folder / f"site-{site}" / "minio"


def _free_port(kept: int | None) -> int:
    return kept if kept and minio.is_free(kept) else minio.free_port()


def _read(data_folder: Path) -> dict[str, int] | None:
    file = data_folder / _KEPT
    try:
        ports = json.loads(file.read_text("utf-8"))["ports"]
        return {name: int(ports[name]) for name in NAMES}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): put a good copy back") from error
