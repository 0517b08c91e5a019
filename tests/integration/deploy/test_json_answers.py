"""What commands that change something tell scripts, where no cluster runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from storage_node.catalogue import schema
from tests.integration.deploy.atria import atria
from tests.unit.deploy.test_render import described, written


def tells(*words: object) -> Any:
    """Run a command that has to succeed, and return what it prints."""
    done = atria(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sites_are_told_as_the_list_and_the_check_tell_of_them(tmp_path: Path) -> None:
    of = ("--data", tmp_path / "data")
    assert tells("site", "init", *of) == tells("site", "check", *of)
    before = tells("site", "list", *of)
    assert tells("site", "replace", "c", "--yes", *of) == {**before[2], "replaced": False}
    shutil.rmtree(tmp_path / "data" / "site-c")
    replaced = tells("site", "replace", "c", "--yes", *of)
    assert (replaced["replaced"], replaced["identity"]["generation"]) == (True, 2)
    assert tells("site", "list", *of) == [*before[:2], {k: v for k, v in replaced.items() if k != "replaced"}]


def test_what_is_asked_does_not_stand_among_the_answers(tmp_path: Path) -> None:
    of = ("--data", tmp_path / "data", "--json")
    atria("site", "init", *of)
    for words in (("site", "replace", "c"), ("catalogue", "rebuild", "c")):
        unanswered = atria(*words, *of)
        assert (unanswered.returncode, unanswered.stdout.strip()) == (1, "")
        assert "site c" in unanswered.stderr


def test_catalogues_are_told_with_their_schemas(tmp_path: Path) -> None:
    atria("site", "init", "--data", tmp_path / "data")
    upgraded = tells("catalogue", "upgrade", "b", "--data", tmp_path / "data")
    assert upgraded == [{"name": "b", "before": schema.REVISION, "now": schema.REVISION}]


def test_a_settings_file_is_told_by_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text("workers = 3\n")
    assert tells("settings", "check", file) == {"problems": []}
    file.write_text("workers = 0\n")
    refused = atria("settings", "check", file, "--json")
    (problem,) = json.loads(refused.stdout)["problems"]
    assert (refused.returncode, refused.stderr) == (2, f"atria: settings: {problem}\n")


def test_rendered_files_are_told(tmp_path: Path) -> None:
    file, out = written(tmp_path, described()), ("--out", tmp_path / "out")
    first = tells("deploy", "render", file, *out)
    assert len(first["written"]) == first["files"] > 0
    (tmp_path / "out" / "s1" / "etcd.yml").unlink()
    (tmp_path / "out" / "s1" / "systemd" / "former.service").write_text("")
    assert tells("deploy", "render", file, *out) == {
        "files": first["files"],
        "written": ["s1/etcd.yml"],
        "left_over": ["s1/systemd/former.service"],
    }
