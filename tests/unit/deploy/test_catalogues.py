from __future__ import annotations

from pathlib import Path

import pytest

from cluster.settings import Site
from deploy import catalogues


def site(passfile: Path) -> Site:
    return Site(
        name="a",
        objects="file:///srv/a",
        catalogue="postgresql://atria@db-a.example/atria",
        catalogue_passfile=passfile,
    )


def test_a_passfile_that_is_not_there_is_told_by_site_and_key(tmp_path: Path) -> None:
    (said,) = catalogues.problems(site(tmp_path / "pgpass"))
    assert said == f"site a: catalogue_passfile: cannot read {tmp_path}/pgpass: No such file or directory"


@pytest.mark.parametrize(("mode", "is_used"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False)])
def test_a_passfile_is_used_if_it_is_for_its_owner_alone(tmp_path: Path, mode: int, *, is_used: bool) -> None:
    file = tmp_path / "pgpass"
    file.touch()
    file.chmod(mode)
    found = catalogues.problems(site(file))
    assert [f"`chmod 600 {file}`" in said for said in found] == ([] if is_used else [True])


def test_a_passfile_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalogues.location(site(Path("~/pgpass"))).passfile == tmp_path / "pgpass"
