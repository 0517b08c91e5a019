"""Network namespaces: made, entered, removed (network_namespaces(7)). They need root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FOLDER: Final = Path("/run/netns")
"""Where ip-netns(8) has them."""
_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NetworkFailed(Exception):
    """The kernel did not do what was asked; the message says what."""


class Namespace:
    """One network namespace, with its loopback interface up.

    Parameters
    ----------
    name : str
        As `ip netns list` shows it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self) -> None:
        """Make it.

        Raises
        ------
        NetworkFailed
            It is there already, or we are not root.
        """
        run("ip", "netns", "add", self.name)
        self.ip("link set lo up")

    def remove(self) -> None:
        """Remove it. Its interfaces go when the last process in it has ended. Harmless when there is none."""
        if (_FOLDER / self.name).exists():
            run("ip", "netns", "delete", self.name)

    def ip(self, *commands: str) -> None:
        """Do what `ip` would with each line, all at once.

        Raises
        ------
        NetworkFailed
        """
        run("ip", "-netns", self.name, "-batch", "-", stdin="\n".join(commands))

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a short command in it, and return what it printed.

        Raises
        ------
        NetworkFailed
        """
        return run("ip", "netns", "exec", self.name, *command, stdin=stdin)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread in it: sockets that are opened meanwhile, and processes, are there for good.

        Nothing may be awaited meanwhile, as the thread is there with everything that it does.
        """
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.enter()
            try:
                yield
            finally:
                _set(here)
        finally:
            os.close(here)

    def enter(self) -> None:
        """Have this thread in it from now on."""
        there = os.open(_FOLDER / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set(there)
        finally:
            os.close(there)


def names() -> list[str]:
    """Return the names of those that are there."""
    return [entry.name for entry in _FOLDER.iterdir()] if _FOLDER.is_dir() else []


def run(*command: str, stdin: str = "") -> str:
    """Run a short command, and return what it printed.

    Raises
    ------
    NetworkFailed
    """
    done = subprocess.run(  # noqa: S603  programs of the host's packages
        command, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise NetworkFailed(f"{' '.join(command)}: {said[0]}")
    return done.stdout


def why_not(programs: Sequence[str] = ("ip", "nft", "tc", "setpriv")) -> str | None:
    """Return why there can be no hosts here, or None."""
    import shutil

    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [program for program in programs if shutil.which(program) is None]:
        return f"not installed: {', '.join(missing)}"
    probe = Namespace(f"atria-{os.getpid()}-probe")
    try:
        probe.make()
    except NetworkFailed as error:
        return str(error)
    finally:
        probe.remove()
    return None


def _set(handle: int) -> None:
    if _LIBC.setns(handle, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
