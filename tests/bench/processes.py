"""Processes that the bench starts, watches and ends: each by its own id, whatever happens."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

_PORTS: Final = range(15_000, 32_000)
"""Below those that outgoing connections get (net.ipv4.ip_local_port_range)."""
READY_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 90.0
_POLL_S: Final = 0.02


class Broken(Exception):
    """Something that the bench needs did not work: there is no figure, good or bad."""


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    end_with: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own until the block is left; its output goes to `folder`.

    The group is what is killed in the end, so what the process forked goes with it.

    Raises
    ------
    Broken
        The command cannot be run.
    """
    name = Path(command[0]).name if "-m" not in command else str(command[command.index("-m") + 1])
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=Path(__file__).parents[2],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise Broken(f"{command[0]} cannot be run: {error}") from error
    try:
        yield process
    finally:
        try:
            process.send_signal(end_with)
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Return a loopback port that nobody uses now, and that no connection is given by the kernel."""
    for port in random.sample(_PORTS, 100):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:  # somebody listens there
            continue
    raise Broken(f"no free port was found in {_PORTS}")


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the process listens.

    Raises
    ------
    Broken
        It ended, or does not listen in time.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Broken(f"{process.args!r} ended at once, with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(_POLL_S)
    raise Broken(f"{process.args!r} does not listen after {READY_TIMEOUT_S:.0f} s")


def peak_memory_bytes(pid: int) -> int:
    """Return the peak resident set size of a process since it began (VmHWM).

    Raises
    ------
    Broken
        There is no such process.
    """
    return _memory(pid, "VmHWM:")


def resident_memory_bytes(pid: int) -> int:
    """Return the resident set size of a process (VmRSS).

    Raises
    ------
    Broken
        There is no such process.
    """
    return _memory(pid, "VmRSS:")


def cpu_seconds(pid: int) -> float:
    """Return what a process, its children, and those of them that ended have spent, in user and kernel mode.

    Raises
    ------
    Broken
        There is no such process.
    """
    while True:
        own, of_ended = _ticks(pid)
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        except OSError as error:
            raise Broken(f"process {pid} is gone: {error}") from error
        of_children = sum(sum(_ticks(int(child))) for child in children)
        if _ticks(pid)[1] == of_ended:  # else one has ended meanwhile, and may be counted twice or not at all
            return (own + of_ended + of_children) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> tuple[int, int]:
    """Return what a process has spent, and its children that ended; nothing for one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return 0, 0
    user, kernel, user_of_ended, kernel_of_ended = map(int, stat.rpartition(")")[2].split()[11:15])
    return user + kernel, user_of_ended + kernel_of_ended


def _memory(pid: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError as error:
        raise Broken(f"process {pid} is gone: {error}") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
