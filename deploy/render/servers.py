"""What the servers of a site need on their host: MinIO its root user, PostgreSQL its first start."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.render import places

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.minio import RootCredentials
    from deploy.render.cluster_file import Cluster, Host


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the sites' servers let Atria in by. Never shown."""

    minio: RootCredentials
    postgresql: str

    def __repr__(self) -> str:
        return "Secrets(…)"

    @classmethod
    def kept(cls, folder: Path) -> Secrets:
        """Return those that a folder keeps, for its owner alone; made if they are not there.

        Raises
        ------
        OSError, KeyError, ValueError, configparser.Error
            They can be neither read nor written, or are something else.
        """
        from deploy.minio import RootCredentials
        from deploy.postgresql import kept_password

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(
            RootCredentials.kept(folder / places.MINIO_CREDENTIALS), kept_password(folder / places.PASSFILE)
        )


def minio_credentials(secrets: Secrets) -> dict[str, str]:
    """Return the file by which a host's processes get at the objects."""
    user, password = secrets.minio.access_key, secrets.minio.secret_key
    text = f"[default]\naws_access_key_id = {user}\naws_secret_access_key = {password}\n"
    return {places.MINIO_CREDENTIALS: text}


def minio_environment(secrets: Secrets) -> dict[str, str]:
    """Return what MinIO's unit reads."""
    user, password = secrets.minio.access_key, secrets.minio.secret_key
    return {places.MINIO_ENVIRONMENT: f"MINIO_ROOT_USER={user}\nMINIO_ROOT_PASSWORD={password}\n"}


def passfile(secrets: Secrets) -> dict[str, str]:
    """Return the file by which a host's processes get at the catalogues."""
    return {places.PASSFILE: f"*:*:*:{places.SUPERUSER}:{secrets.postgresql}\n"}


def password(secrets: Secrets) -> dict[str, str]:
    """Return what a PostgreSQL server's first start reads."""
    return {places.PASSWORD: f"{secrets.postgresql}\n"}


def hba(cluster: Cluster) -> str:
    """Return who may ask a PostgreSQL server: the hosts of the cluster, with the password."""
    users = [host for host in cluster.hosts if host.asks_sites]
    return "".join(f"host all {places.SUPERUSER} {host.network} scram-sha-256\n" for host in users)


def make_postgresql(cluster: Cluster, host: Host) -> str:
    """Return the script that makes a PostgreSQL server's data before its first start, whole or not at all."""
    q = shlex.quote
    user, initdb = cluster.install.postgresql_user, cluster.install.postgresql / "initdb"
    password = cluster.config(host) / places.PASSWORD
    return f"""\
#!/bin/sh
# Makes the data of this host's PostgreSQL, unless it is there.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
data={q(str(cluster.data(host) / "postgresql"))}
test ! -e "$data" || exit 0
rm -rf "$data.new" "$data.password"
install -d -o {q(user)} -m 0700 "$data.new"
install -o {q(user)} -m 0400 {q(str(password))} "$data.password"
cd "$data.new"
runuser -u {q(user)} -- {q(str(initdb))} -D "$data.new" -U {places.SUPERUSER} --auth=scram-sha-256 \\
    --pwfile="$data.password" --encoding=UTF8 --locale=C --lc-ctype=C.UTF-8 --data-checksums
rm "$data.password"
mv "$data.new" "$data"
sync "$data"
"""
