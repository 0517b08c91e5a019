from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from deploy import postgresql_programs as programs
from deploy.errors import UserError
from deploy.parent import Account
from deploy.postgresql import PostgresqlServer, kept_password

SOMEBODY = Account("somebody", 12345, 12345, (12345, 12346))


@pytest.fixture(autouse=True)
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages of PostgreSQL are, which is empty, and nothing is in PATH."""
    folder = tmp_path / "postgresql"
    monkeypatch.setattr(programs, "_PACKAGED", folder)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return folder


def installed(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_newest_package_is_found(packaged: Path) -> None:
    for version in ("9", "14", "15"):
        installed(packaged / version / "bin", f"{version}.3")
    assert programs.find_binaries() == packaged / "15" / "bin"


def test_what_is_in_path_comes_first(tmp_path: Path, packaged: Path) -> None:
    installed(packaged / "17" / "bin", "17.1")
    assert programs.find_binaries() == packaged / "17" / "bin"
    installed(tmp_path / "bin", "16.2")
    assert programs.find_binaries() == tmp_path / "bin"


def test_one_that_is_too_old_or_not_whole_is_not_taken(tmp_path: Path, packaged: Path) -> None:
    installed(tmp_path / "bin", "13.9")
    installed(packaged / "15" / "bin", "15.1")
    (installed(packaged / "16" / "bin", "16.1") / "initdb").unlink()
    assert programs.find_binaries() == packaged / "15" / "bin"


def test_without_one_it_is_said_what_to_install(packaged: Path) -> None:
    with pytest.raises(UserError, match=r"14 or newer.*`apt-get install postgresql`.*`make servers`"):
        programs.find_binaries()


def test_data_is_run_by_the_version_that_made_it(tmp_path: Path, packaged: Path) -> None:
    for version in ("14", "15"):
        installed(packaged / version / "bin", f"{version}.3")
    server = PostgresqlServer(tmp_path / "server")
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("14\n")
    assert server.command()[0] == str(packaged / "14" / "bin" / "postgres")
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(UserError, match=r"PostgreSQL 16 .*`apt-get install postgresql-16`"):
        server.command()


def test_the_password_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "passfile"
    password = kept_password(file)
    assert kept_password(file) == password
    assert file.read_text() == f"*:*:*:atria:{password}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_password_file_is_an_error_and_neither_made_anew_nor_quoted(tmp_path: Path) -> None:
    server = PostgresqlServer(tmp_path / "server")
    server.folder.mkdir()
    server.passfile.write_text("sesame")
    with pytest.raises(ValueError, match="no password") as caught:
        kept_password(server.passfile)
    assert "sesame" not in str(caught.value)
    assert server.passfile.read_text() == "sesame"


def test_neither_the_command_line_nor_the_environment_nor_a_url_shows_the_password(
    tmp_path: Path, packaged: Path
) -> None:
    installed(packaged / "15" / "bin", "15.3")
    server = PostgresqlServer(tmp_path / "server")
    server.folder.mkdir()
    password = kept_password(server.passfile)
    assert password not in f"{server.command()} {server.environment()} {server.url('x')}"


@pytest.mark.parametrize(
    ("mode", "user", "group", "passable"),
    [
        (0o700, 1, 1, False),
        (0o701, 1, 1, True),
        (0o706, 1, 1, False),
        (0o710, 1, 12346, True),
        (0o701, 1, 12346, False),
        (0o700, 12345, 1, True),
        (0o677, 12345, 12345, False),
    ],
)
def test_a_folder_that_it_cannot_get_into_is_named(
    monkeypatch: pytest.MonkeyPatch, mode: int, user: int, group: int, *, passable: bool
) -> None:
    """The owner's own bits hold for the owner, the group's for the group, and the last for all others."""

    def found(path: Path) -> os.stat_result:
        shut = path == Path("/srv/shut")
        return os.stat_result((mode if shut else 0o755, 0, 0, 1, user, group, 0, 0, 0, 0))

    monkeypatch.setattr(Path, "stat", found)
    folder = Path("/srv/shut/server")
    if passable:
        programs.refuse_impassable(folder, SOMEBODY)
        return
    with pytest.raises(
        UserError, match=r"user somebody .* cannot get into /srv/shut: .*chmod o\+x /srv/shut"
    ):
        programs.refuse_impassable(folder, SOMEBODY)


def test_who_is_not_root_runs_it_as_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert programs.account() is None


def test_root_without_a_user_for_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "ACCOUNT", "no-such-user")
    with pytest.raises(UserError, match="does not run as root, and there is no user no-such-user"):
        programs.account()
