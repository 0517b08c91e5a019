"""Atria, started as an operator starts it: `atria up` on loopback, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import sender
from tests.bench.processes import READY_TIMEOUT_S, Broken, free_port, running

SITES: Final = 3
_ATRIA: Final = Path(sys.executable).with_name("atria")
_POLL_S: Final = 0.02
_VERIFY_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs."""

    port: int
    folder: Path
    ready_after_s: float
    """From its start to the first instance that was acknowledged."""
    config: Path | None = None
    """Its settings file, if its sites are not the default's."""

    def worker_pids(self) -> list[int]:
        """Return the process ids of its workers, as they announce themselves."""
        members = [json.loads(file.read_text("utf-8")) for file in (self.folder / "members").glob("*.json")]
        return [int(member["pid"]) for member in members if member["kind"] == "worker"]

    def wait_until_verified(self) -> None:
        """Wait until `atria verify` says that every instance is at every site, what was owed included.

        Raises
        ------
        Broken
            It says no for too long: what was acknowledged was not stored as it is to be.
        """
        command = atria_command("verify", self.folder, self.config)
        deadline = time.monotonic() + _VERIFY_TIMEOUT_S
        while True:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise Broken(f"not every instance is at every site:\n{done.stdout}{done.stderr}")


def atria_command(name: str, folder: Path, config: Path | None) -> list[str | Path]:
    """Return the beginning of a command line: an `atria` command about the cluster in a folder."""
    command: list[str | Path] = [_ATRIA, *name.split(), "--data", folder]
    return [*command, "--config", config] if config else command


@contextlib.contextmanager
def atria(
    folder: Path, *, workers: int = 2, config: Path | None = None, catalogue: str = "sqlite"
) -> Iterator[Cluster]:
    """Run a cluster until the block is left; what it stored stays.

    Its three sites are in `folder`, with catalogues of that kind, or where its settings file says.

    Raises
    ------
    Broken
        It ended, or did not acknowledge an instance in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = atria_command("up", folder, config)
    command += ["--workers", str(workers), "--dicom-port", str(port), "--http-port", "0"]
    if config is None:
        command += ["--catalogue", catalogue]
    started_at = time.monotonic()
    with running(command, folder=folder.parent, end_with=signal.SIGINT) as process:
        _wait_for_acknowledgement(process, port, started_at)
        cluster = Cluster(port, folder, ready_after_s=time.monotonic() - started_at, config=config)
        _wait_for_workers(cluster, workers)
        yield cluster


def _wait_for_acknowledgement(process: subprocess.Popen[bytes], port: int, started_at: float) -> None:
    result = sender.Result(0, 0.0, None)
    while time.monotonic() < started_at + READY_TIMEOUT_S:
        if process.poll() is not None:
            raise Broken(f"atria up ended with {process.returncode}")
        result = sender.send(sender.Job("127.0.0.1", port, count=1))
        if not result.fault:
            return
        time.sleep(_POLL_S)
    raise Broken(f"atria up stores nothing after {READY_TIMEOUT_S:.0f} s: {result.fault}")


def _wait_for_workers(cluster: Cluster, workers: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while len(cluster.worker_pids()) < workers:
        if time.monotonic() > deadline:
            raise Broken(f"{len(cluster.worker_pids())} of {workers} workers are there")
        time.sleep(_POLL_S)
