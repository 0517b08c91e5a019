"""Makes sure that the programs are installed that Atria is judged by: `python -m tests.tools [--bench]`.

With the right to install (root, and apt) the missing ones are installed; without it the tests that need them
are skipped, by name and with the reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ORTHANC: Final = Path("/usr/sbin/Orthanc")
_DCMTK_FOLDER: Final = Path("/usr/bin")
HAPROXY: Final = Path("/usr/sbin/haproxy")
_ETCD: Final = Path("/usr/bin/etcd")
_PACKAGES: Final = {
    "dcmtk": _DCMTK_FOLDER / "storescp",
    "etcd-server": _ETCD,
    # Hosts that are network namespaces:
    "iproute2": Path("/sbin/ip"),
    "nftables": Path("/usr/sbin/nft"),
    "procps": Path("/sbin/sysctl"),
    "util-linux": Path("/usr/bin/setpriv"),
}
_BENCH_PACKAGES: Final = {"orthanc": ORTHANC, "haproxy": HAPROXY}
_SERVICES: Final = {"etcd-server": "etcd", "orthanc": "orthanc", "haproxy": "haproxy"}
"""What a package starts, and is stopped again."""


def dcmtk(name: str) -> Path | None:
    """Return where DCMTK's program of that name is, or None without DCMTK.

    Never looked up by PATH: a virtual environment holds pynetdicom's commands, which have the same names.
    """
    path = _DCMTK_FOLDER / name
    return path if path.is_file() else None


def etcd() -> Path | None:
    """Return where etcd's server is, or None."""
    return _ETCD if _ETCD.is_file() else None


def orthanc() -> Path | None:
    """Return where Orthanc's server is, or None."""
    return ORTHANC if ORTHANC.is_file() else None


def haproxy() -> Path | None:
    """Return where HAProxy is, or None."""
    return HAPROXY if HAPROXY.is_file() else None


def ensure(packages: dict[str, Path]) -> list[str]:
    """Install the packages whose program is missing, as far as that can be done.

    Returns
    -------
    list of str
        The packages that are still missing.
    """
    missing = [name for name, program in packages.items() if not program.is_file()]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(missing)}", flush=True)
        _install(missing)
        missing = [name for name, program in packages.items() if not program.is_file()]
    return missing


def _install(packages: list[str]) -> None:
    """Install with apt, quietly; a package that brings a service gets it stopped again, if it was started."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages]
    # A list of packages that is old or was never fetched fails: only then is it worth fetching.
    for command in (install, ["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command is install and done.returncode == 0:
            break
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            print(f"{' '.join(command[:2])}: {said[-1] if said else 'failed'}", file=sys.stderr)
    for service in _SERVICES.keys() & set(packages):
        if shutil.which("service"):
            subprocess.run(["service", _SERVICES[service], "stop"], capture_output=True, check=False)


def main() -> None:
    """Install what is missing, and say in one line what could not be."""
    parser = argparse.ArgumentParser(description="Install the programs that the tests compare Atria with.")
    parser.add_argument("--bench", action="store_true", help="also what only the benchmark needs")
    packages = _PACKAGES | (_BENCH_PACKAGES if parser.parse_args().bench else {})
    if missing := ensure(packages):
        print(f"not installed, so what needs it is skipped: {', '.join(missing)} (Debian packages)")


if __name__ == "__main__":
    main()
