from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench.processes import Broken, free_port, peak_memory_bytes, running, wait_for_port

_FORKS_AND_IGNORES_SIGTERM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_process_forked_ends_with_it_though_both_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.processes.END_TIMEOUT_S", 0.2)
    told = tmp_path / "child"
    with running([sys.executable, "-c", _FORKS_AND_IGNORES_SIGTERM, told], folder=tmp_path) as process:
        while not (told.exists() and told.read_text()):
            os.sched_yield()
        child = int(told.read_text())
        assert _is_running(child)
    assert process.returncode is not None
    while _is_running(child):  # it is killed, and nobody tells when it is gone; the suite's time limit does
        os.sched_yield()


def test_a_process_ends_when_the_block_is_left_by_an_interrupt(tmp_path: Path) -> None:
    block = running(["/bin/sleep", "600"], folder=tmp_path)
    process = block.__enter__()
    assert process.poll() is None
    interrupt = KeyboardInterrupt()
    assert not block.__exit__(KeyboardInterrupt, interrupt, None)
    assert process.returncode is not None


def test_a_process_that_ends_at_once_is_told_and_its_output_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such thing')"]
    with running(command, folder=tmp_path) as process, pytest.raises(Broken, match="ended at once"):
        wait_for_port(process, free_port())
    assert "no such thing" in next(tmp_path.glob("*.log")).read_text()


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="cannot be run"), running(["/nowhere/at-all"], folder=tmp_path):
        pass


def test_peak_memory_is_that_of_the_process() -> None:
    assert 1 << 20 < peak_memory_bytes(os.getpid()) < 1 << 34
    with pytest.raises(Broken, match="gone"):
        peak_memory_bytes(2**22 + 1)
