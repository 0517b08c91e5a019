"""Where things are that one host says, and another finds: ports, files, names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.coordination.registry import Address

if TYPE_CHECKING:
    from deploy.render.cluster_file import Cluster, Host

ETCD_CLIENT_PORT: Final = 2379
ETCD_PEER_PORT: Final = 2380
MINIO_PORT: Final = 9000
POSTGRESQL_PORT: Final = 5432
BUCKET: Final = "atria"
SUPERUSER: Final = "atria"
DATABASE: Final = "postgres"

MINIO_CREDENTIALS: Final = "minio-credentials"
"""AWS shared credentials file of the root user."""
MINIO_ENVIRONMENT: Final = "minio.env"
"""The same as MinIO itself wants it."""
PASSFILE: Final = "postgresql-passfile"
"""Password file of libpq."""
PASSWORD: Final = "postgresql-password"  # noqa: S105  the name of a file
"""The same as initdb wants it."""

SETTINGS: Final = "atria.toml"
ETCD_SETTINGS: Final = "etcd.yml"
HBA: Final = "pg_hba.conf"
MAKE_POSTGRESQL: Final = "make-postgresql"
FOLDERS: Final = "tmpfiles.conf"
UNITS: Final = "systemd"
TLS: Final = "tls"

ETCD: Final = "etcd"
"""CA of etcd's members and of who may ask them, and a member's certificate."""
ETCD_CLIENT: Final = "etcd-client"
LINK: Final = "link"
"""CA of the balancers, and a balancer's certificate."""


def certificate(name: str) -> str:
    """Return where a certificate is, in a host's folder."""
    return f"{TLS}/{name}.pem"


def key(name: str) -> str:
    """Return where its key is."""
    return f"{TLS}/{name}.key"


def authority(name: str) -> str:
    """Return where the certificate of a CA is."""
    return f"{TLS}/{name}-ca.pem"


def url(scheme: str, host: Host, port: int) -> str:
    """Return the URL of a server on a host."""
    return f"{scheme}://{Address(str(host.address), port)}"


def database_url(host: Host) -> str:
    """Return where the catalogue of a host's site is, as the settings name it."""
    address = Address(str(host.address), POSTGRESQL_PORT)
    return f"postgresql://{SUPERUSER}@{address}/{DATABASE}?sslmode=disable"


def etcd_client(cluster: Cluster, host: Host) -> dict[str, str]:
    """Return the files by which a host's processes and etcd know each other, by their settings."""
    return _files(cluster, host, ca=ETCD, own=ETCD_CLIENT)


def link(cluster: Cluster, host: Host) -> dict[str, str]:
    """Return the files by which balancers know each other, by their settings."""
    return _files(cluster, host, ca=LINK, own=LINK)


def _files(cluster: Cluster, host: Host, *, ca: str, own: str) -> dict[str, str]:
    folder = cluster.config(host)
    return {
        "ca_file": str(folder / authority(ca)),
        "certificate_file": str(folder / certificate(own)),
        "key_file": str(folder / key(own)),
    }
