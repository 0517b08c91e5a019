"""The systemd units of a host, and the target that names which of them run there."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from deploy.process import STAYS_ENDED
from deploy.render import places

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cluster.settings import Settings
    from deploy.render.cluster_file import Cluster, Host

TARGET: Final = "atria.target"
BALANCER: Final = "atria-balancer.service"
WORKER: Final = "atria-worker@.service"
UPKEEP: Final = "atria-upkeep.service"
ETCD: Final = "etcd.service"
MINIO: Final = "atria-minio.service"
POSTGRESQL: Final = "atria-postgresql.service"

_CAPABILITIES: Final = "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE"
"""To hold the service address, to tell the network of it, and to listen on port 104."""
_STOP_GRACE_S: Final = 30
"""What a process needs to end after its associations have, before systemd ends it."""
_HARDENED: Final = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "LockPersonality": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "SystemCallArchitectures": "native",
    "UMask": "0027",
}


def render(cluster: Cluster, host: Host, settings: Settings) -> dict[str, str]:
    """Return a host's units by the names of their files."""
    found = {TARGET: _target(host)}
    if host.balancer:
        found[BALANCER] = _balancer(cluster, host, settings)
    if host.workers:
        found[WORKER] = _worker(cluster, host, settings)
    if host.upkeep:
        found[UPKEEP] = _upkeep(cluster, host, settings)
    if host.etcd:
        found[ETCD] = _etcd(cluster, host)
    if host.objects:
        found[MINIO] = _minio(cluster, host)
    if host.catalogue:
        found[POSTGRESQL] = _postgresql(cluster, host)
    return found


def wanted(host: Host) -> list[str]:
    """Return the units that run on a host, those of its workers by number."""
    workers = [WORKER.replace("@", f"@{number}") for number in range(1, host.workers + 1)]
    there = {
        POSTGRESQL: host.catalogue,
        MINIO: host.objects,
        ETCD: host.etcd,
        UPKEEP: host.upkeep,
        BALANCER: host.balancer,
    }
    return [*(name for name, is_there in there.items() if is_there), *workers]


def folders(cluster: Cluster, host: Host) -> str:
    """Return the folders that must be there before the units start (tmpfiles.d(5))."""
    user = cluster.install.user
    return f"d {cluster.data(host)} 0755 {user} {user}\n"


def _target(host: Host) -> str:
    return _unit(
        {"Description": f"Atria on {host.name}", "Wants": wanted(host)},
        install={"WantedBy": "multi-user.target"},
    )


def _balancer(cluster: Cluster, host: Host, settings: Settings) -> str:
    service = {
        **_process(cluster, host, settings, "balancer", host.name),
        "AmbientCapabilities": _CAPABILITIES,
        "CapabilityBoundingSet": _CAPABILITIES,
        # It sends ARP.
        "RestrictAddressFamilies": f"{_HARDENED['RestrictAddressFamilies']} AF_PACKET",
    }
    return _unit(_about(f"Atria, balancer of {host.name}"), service)


def _worker(cluster: Cluster, host: Host, settings: Settings) -> str:
    service = {
        **_process(cluster, host, settings, "worker", f"{host.name}-worker-%i"),
        # Drained by an operator: it is to stay away until it is started again.
        "RestartPreventExitStatus": str(STAYS_ENDED),
        "SuccessExitStatus": str(STAYS_ENDED),
    }
    return _unit(_about(f"Atria, worker %i of {host.name}"), service)


def _upkeep(cluster: Cluster, host: Host, settings: Settings) -> str:
    service = _process(cluster, host, settings, "upkeep", f"{host.name}-upkeep")
    return _unit(_about(f"Atria, upkeep of {host.name}"), service)


def _process(
    cluster: Cluster, host: Host, settings: Settings, command: str, name: str
) -> dict[str, str | Sequence[str]]:
    config = cluster.config(host) / places.SETTINGS
    return {
        "Type": "exec",
        "User": cluster.install.user,
        "ExecStart": _command(*cluster.install.atria, command, f"--config={config}", f"--name={name}"),
        **_restarted(),
        "TimeoutStopSec": f"{settings.drain_timeout_s + _STOP_GRACE_S:.0f}",
        **_hardened(cluster.data(host)),
    }


def _etcd(cluster: Cluster, host: Host) -> str:
    config = cluster.config(host) / places.ETCD_SETTINGS
    service = {
        "Type": "notify",
        "TimeoutStartSec": "infinity",
        "User": cluster.install.user,
        "ExecStart": _command(cluster.install.etcd, f"--config-file={config}"),
        **_restarted(),
        **_hardened(cluster.data(host)),
    }
    return _unit(_about(f"etcd of {host.name}"), service)


def _minio(cluster: Cluster, host: Host) -> str:
    config, data = cluster.config(host), cluster.data(host) / "minio"
    address = places.url("", host, places.MINIO_PORT).removeprefix("://")
    service = {
        "Type": "notify",
        "TimeoutStartSec": "infinity",
        "User": cluster.install.user,
        "Environment": [f"HOME={data}", "MINIO_BROWSER=off", "MINIO_UPDATE=off"],
        "EnvironmentFile": str(config / places.MINIO_ENVIRONMENT),
        "ExecStart": _command(cluster.install.minio, "server", "--quiet", f"--address={address}", data),
        **_restarted(),
        **_hardened(cluster.data(host)),
    }
    return _unit(_about(f"MinIO of site {host.site}"), service)


def _postgresql(cluster: Cluster, host: Host) -> str:
    config, data = cluster.config(host), cluster.data(host) / "postgresql"
    options = {
        "listen_addresses": host.address,
        "port": places.POSTGRESQL_PORT,
        "unix_socket_directories": "",
        "hba_file": config / places.HBA,
        "max_connections": 200,
        "log_timezone": "UTC",  # as all others' logs
    }
    service = {
        "Type": "notify",
        "TimeoutStartSec": "infinity",
        "User": cluster.install.postgresql_user,
        "ExecStartPre": f"+{_command(config / places.MAKE_POSTGRESQL)}",
        "ExecStart": _command(
            cluster.install.postgresql / "postgres",
            *("-D", data),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ),
        "KillSignal": "SIGINT",  # SIGTERM would wait for the clients to go
        **_restarted(),
        **_hardened(cluster.data(host)),
    }
    return _unit(_about(f"PostgreSQL of site {host.site}"), service)


def _about(description: str) -> dict[str, str | Sequence[str]]:
    return {
        "Description": description,
        "PartOf": TARGET,
        "Wants": "network-online.target",
        "After": "network-online.target",
        "StartLimitIntervalSec": "0",  # it is tried for as long as the host runs
    }


def _restarted() -> dict[str, str]:
    return {"Restart": "always", "RestartSec": "1", "KillMode": "mixed", "LimitNOFILE": "65536"}


def _hardened(data: Path) -> dict[str, str]:
    return {**_HARDENED, "ReadWritePaths": str(data)}


def _command(*parts: object) -> str:
    """Return a command line as systemd reads it (systemd.service(5)). `%i` stays a specifier."""
    return " ".join(shlex.quote(str(part)).replace("$", "$$") for part in parts)


def _unit(
    about: Mapping[str, str | Sequence[str]],
    service: Mapping[str, str | Sequence[str]] | None = None,
    install: Mapping[str, str] | None = None,
) -> str:
    sections = {"Unit": about, "Service": service, "Install": install}
    return "\n".join(
        "".join(f"{line}\n" for line in (f"[{name}]", *_lines(values)))
        for name, values in sections.items()
        if values is not None
    )


def _lines(values: Mapping[str, str | Sequence[str]]) -> Iterable[str]:
    for key, value in values.items():
        for one in (value,) if isinstance(value, str) else value:
            yield f"{key}={one}"
