"""The `atria` command, run as its users run it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.overrides import FILE, Overrides
from deploy.overview import Overview, Process, look
from tests.integration.deploy import forker
from tests.waiting import SOON_S

COMMAND = (sys.executable, "-m", "deploy.command.main")
READY_TIMEOUT_S = 100
END_TIMEOUT_S = 60
PATIENT = "[writing]\nstraggler_grace_s = 60\nsite_timeout_s = 60\nprobe_timeout_s = 60\n"
"""Where the machine has much else to do the sites are slow: none is down, or owed a copy, because of that."""


def atria(*arguments: object, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return forker.run([str(argument) for argument in arguments], {**os.environ, "COLUMNS": "200"}, timeout_s)


@dataclass
class Up:
    """A running `atria up`."""

    process: subprocess.Popen[str]
    data: Path
    ready: dict[str, Any]

    @property
    def address(self) -> str:
        return f"{self.ready['dicom']['host']}:{self.ready['dicom']['port']}"

    def look(self) -> Overview:
        """See what `atria status` shows, without the command's start."""
        return asyncio.run(look(Overrides(data=self.data).settings()))

    def process_named(self, name: str) -> Process | None:
        return next((one for one in self.look().processes if one.name == name), None)

    def pids(self, expected: int) -> list[int]:
        """Wait until so many processes are there, as some come when the cluster works already."""
        until(lambda: len(self.look().processes) == expected, seen=lambda: self.look().processes)
        return [one.pid for one in self.look().processes]

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(END_TIMEOUT_S)


@contextlib.contextmanager
def up(data: Path, *arguments: object) -> Iterator[Up]:
    """Run a cluster; where nothing else is said, its sites are waited for until they have what was sent."""
    if not (data / FILE).exists() and not any("--config" in str(argument) for argument in arguments):
        data.mkdir(exist_ok=True)
        (data / FILE).write_text(PATIENT)
    with subprocess.Popen(
        [*COMMAND, "up", "--json", f"--data={data}", "--dicom-port=0", "--http-port=0", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], READY_TIMEOUT_S)
            line = process.stdout.readline() if readable else ""
            assert line, f"the cluster did not come up within {READY_TIMEOUT_S} s: {last_words(data)}"
            yield Up(process, data, json.loads(line))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(END_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def last_words(data: Path) -> dict[str, str]:
    """Return the end of each log."""
    return {file.name: file.read_text()[-500:] for file in sorted((data / "logs").glob("*.log"))}


def until(holds: Callable[[], bool], *, seen: Callable[[], object] = lambda: "nothing") -> None:
    """Wait for something that another process does, and that raises no event here."""
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to hold within {SOON_S:g} s; seen: {seen()}"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
