from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from deploy import lock
from tests.unit.deploy.commands import Atria


def test_who_waits_gets_the_lock_as_soon_as_it_is_let_go(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with lock.held(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with lock.held(tmp_path / "lock"):
        thread.start()
        waits.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("lock_file", "words"),
    [
        (".atria.toml.lock", ("settings", "set", "limits.associations", 4)),
        (".settings.lock", ("ae", "add", "CT1")),
        (".cluster.json.lock", ("site", "init")),
    ],
)
def test_a_lock_that_is_never_let_go_ends_a_command_in_one_line(
    atria: Atria,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock_file: str,
    words: tuple[object, ...],
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.1)
    with (tmp_path / lock_file).open("w") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        ended = atria(*words, "--data", tmp_path)
    (line,) = ended.stderr.splitlines()
    assert ended.code == 2
    assert f"{tmp_path / lock_file}: held by another process for 0.1 s" in line
