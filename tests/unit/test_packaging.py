from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()


def test_the_packages_that_are_named_are_those_that_are_there() -> None:
    named = PROJECT["tool"]["setuptools"]["packages"]
    top_level = PROJECT["tool"]["importlinter"]["root_packages"]
    there = [
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in top_level
        for file in (ROOT / top).rglob("__init__.py")
    ]
    assert named == sorted(there)
    assert {name.partition(".")[0] for name in named} == set(top_level)


def test_every_folder_with_code_is_a_package() -> None:
    for top in PROJECT["tool"]["importlinter"]["root_packages"]:
        for file in (ROOT / top).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file


def test_it_can_never_be_published() -> None:
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_the_lock_has_hashes_for_all_that_is_named_and_no_addresses() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^--(extra-)?index-url|^--find-links|^--trusted-host", LOCK, re.MULTILINE)
    pinned = set(re.findall(r"^([a-z0-9._-]+)==\S+ \\\n    --hash=sha256:", LOCK, re.MULTILINE))
    assert len(pinned) == len(re.findall(r"^\S+==", LOCK, re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = {*PROJECT["project"]["dependencies"], *(name for names in extras for name in names)}
    assert wanted <= pinned
    assert "setuptools" in pinned, "the build backend"
