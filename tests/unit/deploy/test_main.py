"""What is said to who calls a command wrongly: one line, an exit code, and nothing made or changed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.command import who
from deploy.errors import UserError
from tests.unit.deploy.commands import Atria, Command, commands

MAKE_THE_FOLDER = {"up", "site init"}
ABOUT_A_CLUSTER = [one for one in commands() if "--data" in one.options and str(one) not in MAKE_THE_FOLDER]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""The environment, in which what is printed is written at the end, as it is for who sets nothing."""


@pytest.mark.parametrize("words", ABOUT_A_CLUSTER, ids=str)
def test_a_data_folder_that_was_mistyped_is_told_in_one_line_and_not_made(
    atria: Atria, tmp_path: Path, words: Command
) -> None:
    (tmp_path / "images").mkdir()
    for example in words.examples:
        ended = atria(*[word for word in example if word != "/media/cdrom"], "--data", tmp_path / "typo")
        (line,) = ended.stderr.splitlines()
        assert (ended.code, ended.stdout, line.startswith("atria: ")) == (2, "", True)
        assert [one.name for one in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("drian",), "no such command 'drian': `atria --help`"),
        (("worker", "drian", "w1"), "no such command 'drian'. Did you mean 'drain'?: `atria worker --help`"),
        (("worker", "drain"), "missing argument 'NAME': `atria worker drain --help`"),
        (("worker", "list", "--jsn"), "no such option: --jsn"),
        (("up", "--dicom-port", "99999"), "invalid value for '--dicom-port': "),
        (("worker", "list", "--data", __file__), "invalid value for '--data' (env var: 'ATRIA_DATA'): "),
        (("worker", "list", "--config", "none.toml"), "settings: none.toml: cannot be read: No such file"),
        (("deploy", "render", "none.toml", "--out", "out"), "none.toml: cannot be read: No such file"),
    ],
)
def test_a_wrong_use_is_one_line_that_says_what_to_do(
    atria: Atria, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ended = atria(*words)
    (line,) = ended.stderr.splitlines()
    assert (ended.code, ended.stdout) == (2, "")
    assert line.removeprefix("atria: ").startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_without_any_words_the_help_is_shown(atria: Atria) -> None:
    ended = atria("settings")
    assert (ended.code, ended.stderr, "revert" in ended.stdout) == (2, "", True)


@pytest.mark.parametrize("words", ["site init", "up --dicom-port=0 --http-port=0"])
def test_a_disk_that_is_full_is_told_with_what_could_not_be_written(tmp_path: Path, words: str) -> None:
    """Files may grow to a limit only; what comes of that is the same."""
    limited = f"ulimit -f 8; exec {sys.executable} -m deploy.command.main {words} --data={tmp_path}/data"
    ended = subprocess.run(
        ["bash", "-c", limited],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert line.startswith("atria: ")
    assert str(tmp_path / "data") in line


def test_of_tasks_that_fail_together_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, atria: Atria
) -> None:
    async def fail() -> None:
        raise UserError("it is so")

    async def work(*_: object) -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(fail())
            async with asyncio.TaskGroup() as inner:
                inner.create_task(fail())

    monkeypatch.setattr("deploy.overview.look", work)
    assert atria("status").stderr == "atria: it is so\n"


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert who.account().startswith(f"{os.getuid()}@")


@pytest.mark.parametrize("words", ["settings show", "settings show limits.associations --json"])
def test_who_reads_only_the_beginning_is_told_nothing_more(tmp_path: Path, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.command.main", *words.split(), f"--data={tmp_path}"],
        env=BUFFERED,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_host_that_has_no_room_left_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text("workers = 3\n")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "deploy.command.main", "settings", "check", str(file)],
            env=BUFFERED,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (ended.returncode, ended.stderr) == (2, "atria: No space left on device\n")
