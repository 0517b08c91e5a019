"""What a systemd unit says, as far as a host of a drill does it (systemd.service(5))."""

from __future__ import annotations

import shlex
import shutil
import signal
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.hosts.privileges import Privileges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Unit:
    """One service."""

    name: str
    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...]
    """Commands that are run to their end before it, as root."""
    environment: dict[str, str]
    privileges: Privileges
    stop_signal: signal.Signals
    stop_timeout_s: float
    restart_after_s: float
    stays_ended: frozenset[int]
    """Exit codes after which it is not started again."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that must be there, with its owner."""

    path: Path
    mode: int
    user: str
    group: str

    def make(self) -> None:
        """Make it, and what is above it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(self.mode)
        shutil.chown(self.path, self.user, self.group)


def wanted(folder: Path, target: str) -> list[str]:
    """Return the units that a target wants, in its order."""
    return [name for key, name in _settings(folder / target) if key == "Wants"]


def read(folder: Path, name: str) -> Unit:
    """Return a service, which may be an instance (`atria-worker@1.service`).

    Parameters
    ----------
    folder : Path
        Where the units' files are.
    name : str
    """
    template, instance = _template(name)
    values: dict[str, list[str]] = defaultdict(list)
    for key, value in _settings(folder / template):
        values[key].append(value.replace("%i", instance))
    last = {key: of_key[-1] for key, of_key in values.items()}
    return Unit(
        name,
        _command(last["ExecStart"]),
        tuple(_command(value.removeprefix("+")) for value in values["ExecStartPre"]),
        dict(_environment(values)),
        _privileges(last),
        signal.Signals[last.get("KillSignal", "SIGTERM")],
        float(last.get("TimeoutStopSec", "90")),
        float(last["RestartSec"]),
        frozenset(int(code) for code in last.get("RestartPreventExitStatus", "").split()),
    )


def folders(file: Path) -> list[Folder]:
    """Return the folders that are to be made before any unit starts (tmpfiles.d(5))."""
    lines = (line.split() for line in file.read_text("utf-8").splitlines())
    return [
        Folder(Path(fields[1]), int(fields[2], 8), *fields[3:5])
        for fields in lines
        if fields and fields[0] == "d"
    ]


def _template(name: str) -> tuple[str, str]:
    stem, _, suffix = name.rpartition(".")
    before, at, instance = stem.partition("@")
    return f"{before}{at}.{suffix}", instance


def _settings(file: Path) -> Iterator[tuple[str, str]]:
    for line in file.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            yield key, value


def _command(line: str) -> tuple[str, ...]:
    return tuple(part.replace("$$", "$") for part in shlex.split(line))


def _environment(values: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for line in values["Environment"]:
        for part in shlex.split(line):
            name, _, value = part.partition("=")
            yield name, value
    for file in values["EnvironmentFile"]:
        yield from _settings(Path(file))


def _privileges(last: Mapping[str, str]) -> Privileges:
    bounding = last.get("CapabilityBoundingSet")
    return Privileges(
        last.get("User", "root"),
        frozenset(last.get("AmbientCapabilities", "").split()),
        None if bounding is None else frozenset(bounding.split()),
        last.get("NoNewPrivileges") == "yes",
        int(last.get("UMask", "0022"), 8),
    )
