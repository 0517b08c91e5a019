"""A cluster on hosts of its own: its file, and what is rendered from that put where its units look for it."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tomlkit

from chaos.hosts.addresses import BALANCERS, IPV4, SITES, Addresses
from chaos.hosts.network import INTERFACE
from chaos.hosts.privileges import Privileges
from deploy.render import cluster_file, tree
from deploy.render.certificates import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

ATRIA: Final = (sys.executable, "-m", "deploy.command.main")
"""The command."""
_ACCOUNT: Final = "daemon"
"""Stands for the user `atria`: it is on every host (Linux Standard Base, Core 23.2), and may do nothing."""
_PROGRAM: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = ("balancer", "cluster", "deploy", "storage_node")
_SECRET: Final = 0o600


def described(
    folder: Path,
    minio: Path,
    postgresql: Path,
    *,
    addresses: Addresses = IPV4,
    user: str | None = None,
    **settings: object,
) -> dict[str, Any]:
    """Return the cluster's file: two balancers, three hosts with all that a site has.

    Parameters
    ----------
    folder : Path
        Everything is kept below it.
    minio : Path
        Its program.
    postgresql : Path
        The folder of its programs.
    addresses : Addresses
    user : str, optional
        Whom everything of Atria runs as; as a rule not root.
    **settings
        What all hosts' settings say besides.
    """
    nodes = [
        {
            "name": name,
            "address": str(addresses[name]),
            "site": site,
            "workers": 1,
            **dict.fromkeys(("upkeep", "etcd", "objects", "catalogue"), True),
        }
        for name, site in SITES.items()
    ]
    return {
        "install": {
            "atria": list(ATRIA),
            "minio": str(minio),
            "postgresql": str(postgresql),
            "config": f"{folder}/rendered/{{host}}",
            "data": f"{folder}/data/{{host}}",
            "user": user or account(),
        },
        "service": {"address": str(addresses.service), "interface": INTERFACE},
        "settings": {"drain_timeout_s": 20, **settings},
        "sites": [{"name": site} for site in SITES.values()],
        "hosts": [
            *({"name": name, "address": str(addresses[name]), "balancer": True} for name in BALANCERS),
            *nodes,
        ],
    }


def account() -> str:
    """Return whom processes can run as: a user that may do nothing; root where that one cannot read Atria."""
    return _ACCOUNT if why_root(_ACCOUNT) is None else "root"


def why_root(user: str = _ACCOUNT) -> str | None:
    """Return why the processes of hosts can run as nobody but root, or None."""
    command = Privileges(user).command(sys.executable, "-c", "import deploy.command.main")
    done = subprocess.run(  # noqa: S603  ourselves
        command, env=environment(), cwd="/", capture_output=True, text=True, check=False
    )
    return f"user {user} cannot run Atria here: {done.stderr.strip()[-300:]}" if done.returncode else None


def environment() -> dict[str, str]:
    """Return what all processes of hosts have in their environment."""
    return {key: value for key, value in os.environ.items() if key in ("PYTHONPATH", "LANG")}


def install(folder: Path, values: Mapping[str, Any]) -> cluster_file.Cluster:
    """Render a cluster's file below a folder, with owners as the documentation has them.

    What is rendered belongs to root, so that no process can change what root runs; but what only its owner
    may read belongs to who is to read it.

    Raises
    ------
    UserError
    """
    file = folder / "cluster.toml"
    file.write_text(tomlkit.dumps(dict(values)), "utf-8")
    cluster = cluster_file.load(file)
    out = folder / "rendered"
    out.mkdir(mode=0o755, exist_ok=True)
    planned = tree.plan(cluster, out, utc_now())
    tree.write(out, planned)
    for name, rendered in planned.items():
        if rendered.mode == _SECRET:
            shutil.chown(out / name, cluster.install.user)
    for package in _PACKAGES:  # as it is where it is installed: these users could not write what they compile
        compileall.compile_dir(_PROGRAM / package, quiet=2)
    return cluster
