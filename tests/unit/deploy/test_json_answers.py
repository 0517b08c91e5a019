"""What commands that change something tell scripts, where no cluster runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from storage_node.catalogue import schema
from tests.unit.deploy.commands import Atria
from tests.unit.deploy.test_render import described, written


def tells(atria: Atria, *words: object) -> Any:
    """Run a command that has to succeed, and return what it prints."""
    return atria(*words, "--json").json


def test_sites_are_told_as_the_list_and_the_check_tell_of_them(atria: Atria, tmp_path: Path) -> None:
    of = ("--data", tmp_path / "data")
    assert tells(atria, "site", "init", *of) == tells(atria, "site", "check", *of)
    before = tells(atria, "site", "list", *of)
    assert tells(atria, "site", "replace", "c", "--yes", *of) == {**before[2], "replaced": False}
    shutil.rmtree(tmp_path / "data" / "site-c")
    replaced = tells(atria, "site", "replace", "c", "--yes", *of)
    assert (replaced["replaced"], replaced["identity"]["generation"]) == (True, 2)
    assert tells(atria, "site", "list", *of) == [
        *before[:2],
        {k: v for k, v in replaced.items() if k != "replaced"},
    ]


def test_what_is_asked_does_not_stand_among_the_answers(atria: Atria, tmp_path: Path) -> None:
    of = ("--data", tmp_path / "data", "--json")
    atria("site", "init", *of)
    for words in (("site", "replace", "c"), ("catalogue", "rebuild", "c")):
        unanswered = atria(*words, *of)
        assert (unanswered.code, unanswered.stdout.strip()) == (1, "")
        assert "site c" in unanswered.stderr
        assert unanswered.stderr.endswith(
            "atria: nothing was done, as nobody said yes (--yes does not ask)\n"
        )


def test_catalogues_are_told_with_their_schemas(atria: Atria, tmp_path: Path) -> None:
    atria("site", "init", "--data", tmp_path / "data")
    upgraded = tells(atria, "catalogue", "upgrade", "b", "--data", tmp_path / "data")
    assert upgraded == [{"name": "b", "before": schema.REVISION, "now": schema.REVISION}]


def test_a_settings_file_is_told_by_its_problems(atria: Atria, tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text("workers = 3\n")
    assert tells(atria, "settings", "check", file) == {"problems": []}
    file.write_text("workers = 0\n")
    refused = atria("settings", "check", file, "--json")
    (problem,) = json.loads(refused.stdout)["problems"]
    assert (refused.code, refused.stderr) == (2, f"atria: settings: {problem}\n")


def test_rendered_files_are_told(atria: Atria, tmp_path: Path) -> None:
    file, out = written(tmp_path, described()), ("--out", tmp_path / "out")
    first = tells(atria, "deploy", "render", file, *out)
    assert len(first["written"]) == first["files"] > 0
    (tmp_path / "out" / "s1" / "etcd.yml").unlink()
    (tmp_path / "out" / "s1" / "systemd" / "former.service").write_text("")
    assert tells(atria, "deploy", "render", file, *out) == {
        "files": first["files"],
        "written": ["s1/etcd.yml"],
        "left_over": ["s1/systemd/former.service"],
    }
