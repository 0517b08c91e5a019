"""Whom a process runs as, and what it may do: as systemd has it from a unit (systemd.exec(5))."""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from typing import Final

_ROOT: Final = "root"


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a process may."""

    user: str = _ROOT
    ambient: frozenset[str] = frozenset()
    """Capabilities that it has, and keeps over an exec: `CAP_NET_ADMIN`."""
    bounding: frozenset[str] | None = None
    """Capabilities that it, and what it starts, can ever have; None for all."""
    no_new: bool = False
    """Whether no program that it starts can give it more."""
    umask: int = 0o022

    def command(self, *command: str) -> tuple[str, ...]:
        """Return the command that becomes so and then runs another (setpriv(1)). To be run as root.

        The kernel forgets when the user changes that the process is to die with its parent: it is told again.
        Root is left as it is: nothing of Atria runs as root but where nobody else can read the program, and
        there root without capabilities may not read it either.
        """
        if self.user == _ROOT:
            return command
        group = pwd.getpwnam(self.user).pw_gid
        options = [f"--reuid={self.user}", f"--regid={group}", "--init-groups", "--pdeathsig=KILL"]
        if self.bounding is not None:
            options.append(f"--bounding-set={_only(self.bounding)}")
        if self.ambient:
            options += [f"--inh-caps={_only(self.ambient)}", f"--ambient-caps={_only(self.ambient)}"]
        if self.no_new:
            options.append("--no-new-privs")
        return ("setpriv", *options, "--", *command)


def _only(capabilities: frozenset[str]) -> str:
    return ",".join(("-all", *sorted(f"+{one.removeprefix('CAP_').lower()}" for one in capabilities)))
