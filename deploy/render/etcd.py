"""The configuration of a member of etcd, over TLS with certificates on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.render import places

if TYPE_CHECKING:
    from deploy.render.cluster_file import Cluster, Host

_QUOTA_BYTES: Final = 2 * 1024**3
"""What it keeps is some hundred kilobytes; this stops what should never happen."""


def render(cluster: Cluster, host: Host) -> str:
    """Return a member's `etcd.yml`."""
    members = cluster.of("etcd")
    client, peer = (
        places.url("https", host, port) for port in (places.ETCD_CLIENT_PORT, places.ETCD_PEER_PORT)
    )
    initial = ",".join(f"{one.name}={places.url('https', one, places.ETCD_PEER_PORT)}" for one in members)
    return "".join(
        f"{line}\n"
        for line in (
            f"name: {host.name}",
            f"data-dir: {cluster.data(host) / 'etcd'}",
            f"listen-client-urls: {client}",
            f"advertise-client-urls: {client}",
            f"listen-peer-urls: {peer}",
            f"initial-advertise-peer-urls: {peer}",
            f"initial-cluster: {initial}",
            "initial-cluster-state: new",
            "initial-cluster-token: atria",
            f"heartbeat-interval: {cluster.etcd.heartbeat_ms}",
            f"election-timeout: {cluster.etcd.election_ms}",
            "pre-vote: true",  # a member that comes back does not unseat the leader
            "auto-compaction-mode: periodic",
            'auto-compaction-retention: "1h"',
            f"quota-backend-bytes: {_QUOTA_BYTES}",
            "logger: zap",
            "log-level: warn",
            *_security(cluster, host, "client"),
            *_security(cluster, host, "peer"),
        )
    )


def _security(cluster: Cluster, host: Host, side: str) -> tuple[str, ...]:
    folder = cluster.config(host)
    return (
        f"{side}-transport-security:",
        f"  cert-file: {folder / places.certificate(places.ETCD)}",
        f"  key-file: {folder / places.key(places.ETCD)}",
        f"  trusted-ca-file: {folder / places.authority(places.ETCD)}",
        "  client-cert-auth: true",
    )
