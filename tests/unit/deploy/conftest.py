from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from deploy.command import main as command
from tests.unit.deploy.commands import Atria, Ended, root


@pytest.fixture
def atria(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Atria]:
    """Run commands in this process, in a folder of their own."""
    config = structlog.get_config()
    monkeypatch.setattr(command, "build", root)  # which costs more than what most commands do
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody is there to say yes
    for name in ("ATRIA_CONFIG", "ATRIA_DATA"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["atria", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        return Ended(ended.value.code or 0, *capsys.readouterr())

    yield run
    structlog.configure(**config)
