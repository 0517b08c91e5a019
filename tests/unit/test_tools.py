from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools

# Knows of no package until its list was fetched, as on a machine that was just set up.
_APT_GET = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1" in
update) touch "$here/list" ;;
install)
    [ -e "$here/list" ] || { echo "E: Unable to locate package" >&2; exit 100; }
    touch "$here/../program" ;;
esac
"""


@pytest.fixture
def apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "apt-get").write_text(_APT_GET)
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_dcmtk_is_never_looked_up_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "storescp").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.dcmtk("storescp") in {None, Path("/usr/bin/storescp")}
    assert tools.dcmtk("no-such-program") is None


def test_root_gets_what_is_missing_installed_and_the_list_of_packages_fetched_only_if_need_be(
    tmp_path: Path, apt_get: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert tools.ensure({"thing": tmp_path / "program"}) == []
    assert [call.split()[0] for call in (apt_get / "calls").read_text().splitlines()] == [
        "install",
        "update",
        "install",
    ]
    (tmp_path / "program").unlink()
    assert tools.ensure({"thing": tmp_path / "program"}) == []
    assert len((apt_get / "calls").read_text().splitlines()) == 4


def test_what_is_there_is_not_installed_again(
    tmp_path: Path, apt_get: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "program").touch()
    assert tools.ensure({"thing": tmp_path / "program"}) == []
    assert not (apt_get / "calls").exists()


def test_without_the_right_to_install_what_is_missing_is_told(
    tmp_path: Path, apt_get: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert tools.ensure({"thing": tmp_path / "program"}) == ["thing"]
    assert not (apt_get / "calls").exists()
