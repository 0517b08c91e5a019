"""All files of all hosts, and whether a folder holds them.

The folder has one for each host, and beside them what is made once and belongs on no host: the keys of the
CAs (`ca/`), and what the sites' servers let Atria in by (`secrets/`).
"""

from __future__ import annotations

import stat
from configparser import Error as NoCredentials
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from cluster.durable import replace_durably
from deploy.errors import UserError
from deploy.render import etcd, host_settings, places, servers, units
from deploy.render.certificates import Authority, Names, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from deploy.render.cluster_file import Cluster, Host
    from deploy.render.servers import Secrets

_CA: Final = "ca"
_SECRETS: Final = "secrets"
_MADE_ONCE: Final = (
    *(PurePath(_CA, f"{name}.{kind}") for name in (places.ETCD, places.LINK) for kind in ("pem", "key")),
    PurePath(_SECRETS, places.MINIO_CREDENTIALS),
    PurePath(_SECRETS, places.PASSFILE),
)


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is to be."""

    text: str = field(repr=False)
    mode: int = 0o644


def plan(cluster: Cluster, out: Path, now: datetime) -> dict[PurePath, File]:
    """Return all files of all hosts, below a folder; what is made once is made there if it is missing.

    Raises
    ------
    UserError
        The settings of a host would not be what is expected, or what was made once is damaged.
    OSError
    """
    for host in cluster.hosts:
        host_settings.settings(cluster, host)  # what is wrong is told before anything is made
    try:
        secrets = servers.Secrets.kept(out / _SECRETS)
    except (ValueError, KeyError, NoCredentials):  # what they say may quote the file
        said = f"{out / _SECRETS} holds something else than was written there: put good copies back"
        raise UserError(said) from None
    authorities = {name: Authority.kept(out / _CA, name, now) for name in (places.ETCD, places.LINK)}
    planned: dict[PurePath, File] = {}
    for host in cluster.hosts:
        files = _settings(cluster, host) | _secret(cluster, host, secrets)
        files |= _certificates(cluster, host, authorities, out / host.name, now)
        planned |= {PurePath(host.name, name): file for name, file in files.items()}
    return planned


def write(out: Path, planned: Mapping[PurePath, File]) -> list[PurePath]:
    """Write the files that are not there as they are to be, and return which these were.

    Raises
    ------
    OSError
    """
    missing = list(_unlike(out, planned))
    for name in missing:
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(file, planned[name].text, mode=planned[name].mode)
    return missing


def check(cluster: Cluster, out: Path, now: datetime) -> list[str]:
    """Return how a folder differs from what would be rendered, a line for each file. Writes nothing.

    Raises
    ------
    UserError
        As `plan` does.
    OSError
    """
    if absent := [f"{name}: is missing" for name in _MADE_ONCE if not (out / name).exists()]:
        return absent
    planned = plan(cluster, out, now)
    unlike = [
        f"{name}: {'differs' if (out / name).exists() else 'is missing'}" for name in _unlike(out, planned)
    ]
    return unlike + [f"{name}: is not rendered any more" for name in left_over(cluster, out, planned)]


def left_over(cluster: Cluster, out: Path, planned: Mapping[PurePath, File]) -> list[PurePath]:
    """Return what earlier renderings have left: files of the cluster's hosts, folders of former hosts."""
    folders = [out / host.name / name for host in cluster.hosts for name in (places.UNITS, places.TLS)]
    there = {file.relative_to(out) for folder in folders if folder.is_dir() for file in folder.iterdir()}
    rendered = {units.parent.relative_to(out) for units in out.glob(f"*/{places.UNITS}")}
    former = rendered - {Path(host.name) for host in cluster.hosts}
    return sorted(there - {Path(name) for name in planned} | former)


def _settings(cluster: Cluster, host: Host) -> dict[str, File]:
    found = host_settings.settings(cluster, host)
    rendered = units.render(cluster, host, found)
    files = {f"{places.UNITS}/{name}": File(text) for name, text in rendered.items()}
    files[places.FOLDERS] = File(units.folders(cluster, host))
    if host.runs_atria:
        files[places.SETTINGS] = File(host_settings.render(cluster, host))
    if host.etcd:
        files[places.ETCD_SETTINGS] = File(etcd.render(cluster, host))
    if host.catalogue:
        files[places.HBA] = File(servers.hba(cluster))
        files[places.MAKE_POSTGRESQL] = File(servers.make_postgresql(cluster, host), 0o755)
    return files


def _secret(cluster: Cluster, host: Host, secrets: Secrets) -> dict[str, File]:
    texts: dict[str, str] = {}
    if host.asks_sites and any(other.objects for other in cluster.hosts):
        texts |= servers.minio_credentials(secrets)
    if host.asks_sites and any(other.catalogue for other in cluster.hosts):
        texts |= servers.passfile(secrets)
    if host.objects:
        texts |= servers.minio_environment(secrets)
    if host.catalogue:
        texts |= servers.password(secrets)
    return {name: File(text, 0o600) for name, text in texts.items()}


def _certificates(
    cluster: Cluster, host: Host, authorities: Mapping[str, Authority], folder: Path, now: datetime
) -> dict[str, File]:
    files: dict[str, File] = {}
    for name, (signer, names) in _wanted(cluster, host).items():
        authority = authorities[signer]
        pair = _found(folder, name)
        if pair is None or not authority.fits(pair, names, now):
            pair = authority.issue(names, now)
        files[places.authority(signer)] = File(authority.pem)
        files[places.certificate(name)] = File(pair.certificate)
        files[places.key(name)] = File(pair.key, 0o600)
    return files


def _wanted(cluster: Cluster, host: Host) -> dict[str, tuple[str, Names]]:
    """Return a host's certificates: by which CA, and for whom."""
    wanted: dict[str, tuple[str, Names]] = {}
    if host.etcd:
        wanted[places.ETCD] = places.ETCD, Names(host.name, (host.name,), (host.address,))
    if host.runs_atria and cluster.of("etcd"):
        wanted[places.ETCD_CLIENT] = places.ETCD, Names(f"atria at {host.name}", (host.name,))
    if host.balancer and len(cluster.of("balancer")) > 1:
        wanted[places.LINK] = places.LINK, Names(host.name, (host.name,), (host.address,))
    return wanted


def _found(folder: Path, name: str) -> Pair | None:
    try:
        return Pair(
            (folder / places.certificate(name)).read_text("ascii"),
            (folder / places.key(name)).read_text("ascii"),
        )
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _unlike(out: Path, planned: Mapping[PurePath, File]) -> Iterator[PurePath]:
    for name, file in planned.items():
        try:
            status = (out / name).stat()
            is_so = (out / name).read_text("utf-8") == file.text
        except (FileNotFoundError, UnicodeDecodeError):
            yield name
            continue
        if not is_so or stat.S_IMODE(status.st_mode) != file.mode:
            yield name
