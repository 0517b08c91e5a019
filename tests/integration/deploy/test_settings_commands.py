"""`atria ae`, `atria route` and `atria settings`, where no cluster runs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy.server import free_port
from tests.integration.deploy.atria import atria

TEXT = """# Ours.
[dicom]
ae_title = "OURS"

[[peers]]
ae_title = "CT1"  # the new one
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "atria.toml"
    file.write_text(f"data_folder = '{tmp_path}/data'\n{TEXT}")
    return file


def does(config: Path, *words: object) -> Any:
    """Run a command that has to succeed, and return what it prints as JSON."""
    done = atria(*words, "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(config: Path, *words: object) -> str:
    """Run a command that has to be refused, without a change, and return the line that says why."""
    before = config.read_text()
    done = atria(*words, "--config", config)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert config.read_text() == before
    (line,) = done.stderr.splitlines()
    return line.removeprefix("atria: ")


def test_an_ae_is_added_listed_and_removed(config: Path) -> None:
    assert does(config, "ae", "add", "WS", "--host", "10.1.2.3", "--port", 104) == {
        "revision": 2,
        "changed": ["destinations"],
    }
    ct, ws = does(config, "ae", "list")
    assert (ct["ae_title"], ct["destination"]) == ("CT1", None)
    assert ws["destination"] == {"host": "10.1.2.3", "port": 104, "as_stored": False}
    assert 'ae_title = "CT1"  # the new one' in config.read_text()
    assert does(config, "ae", "remove", "WS")["revision"] == 3
    assert [one["ae_title"] for one in does(config, "ae", "list")] == ["CT1"]
    assert does(config, "ae", "add", "CT1") == {"revision": 3, "changed": []}


def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(config: Path) -> None:
    said = refused(config, "settings", "set", "limits.queue_timeout_s", "-1")
    assert said == "settings: limits.queue_timeout_s: expected greater than 0, found -1"
    assert refused(config, "ae", "remove", "MR") == "settings: there is no AE MR: known are CT1"
    assert "--host" in refused(config, "ae", "add", "WS", "--port", 104)
    assert "expected a network, as 10.1.0.0/16" in refused(config, "route", "add", "--source", "10.1.2.3/16")
    for word in ("a", "=a", "site="):
        said = refused(config, "route", "add", "--worker", word)
        assert said == f"--worker: expected KEY=VALUE, found {word!r}"
    assert "site is given twice" in refused(
        config, "route", "add", "--worker", "site=a", "--worker", "site=b"
    )
    assert "there is no route 1" in refused(config, "route", "remove", 1)
    assert "there is no revision 9" in refused(config, "settings", "revert", 9)
    assert "there is no such setting" in refused(config, "settings", "show", "limits.none")


def test_the_first_route_that_fits_is_the_one_that_is_taken(config: Path) -> None:
    does(config, "route", "add", "--source", "10.1.0.0/16", "--worker", "site=a")
    does(config, "route", "add", "--calling", "CT1", "--worker", "modality=ct", "--only", "--before", 1)
    call = ("route", "try", "--called", "OURS", "--calling")
    assert does(config, *call, "CT1", "--source", "10.1.0.9")["number"] == 1
    taken = does(config, *call, "MR", "--source", "10.1.0.9")
    assert (taken["number"], taken["workers"], taken["only"]) == (2, {"site": "a"}, False)
    assert does(config, *call, "MR", "--source", "192.0.2.1") is None
    does(config, "route", "remove", 1)
    assert [one["calling_ae"] for one in does(config, "route", "list")] == [None]


def test_each_change_can_be_looked_at_and_taken_back(config: Path) -> None:
    text = config.read_text()
    does(config, "settings", "set", "limits.associations", 17)
    does(config, "ae", "remove", "CT1")
    assert does(config, "settings", "show", "limits.associations") == {
        "limits.associations": {"value": 17, "from": "file"}
    }
    history = does(config, "settings", "history")
    assert [one["change"] for one in history] == [
        "AE CT1 removed",
        "limits.associations set to 17",
        "as the settings file was found",
    ]
    assert "@" in history[0]["changed_by"]
    changed = does(config, "settings", "revert", 1)
    assert changed == {"revision": 4, "changed": ["limits.associations", "peers"]}
    assert does(config, "settings", "show", "limits.associations")["limits.associations"]["from"] == "default"
    assert [one["ae_title"] for one in does(config, "ae", "list")] == ["CT1"]
    assert atria("settings", "check", config).returncode == 0
    assert config.read_text().startswith(text[: text.index("[[peers]]")])


def test_operators_that_work_at_the_same_time_do_not_undo_each_others_work(config: Path) -> None:
    titles = [f"AE{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda title: does(config, "ae", "add", title), titles))
    assert {one["ae_title"] for one in does(config, "ae", "list")} == {"CT1", *titles}
    assert len(does(config, "settings", "history")) == 7


def test_a_file_that_cannot_be_used_is_refused_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    file.write_text("[limits]\nassociations = 0\n")
    checked = atria("settings", "check", file)
    assert checked.returncode == 2
    assert (
        checked.stderr == f"atria: settings: {file}: limits.associations: expected greater than 0, found 0\n"
    )


def test_where_etcd_cannot_be_reached_that_is_said_and_nothing_is_changed(config: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    config.write_text(f"{config.read_text()}\n[etcd]\nendpoints = ['{endpoint}']\ntimeout_s = 0.3\n")
    said = refused(config, "ae", "add", "MR")
    assert said.startswith("settings: ")
    assert said.endswith("nothing was changed")
    assert endpoint.removeprefix("http://") in said


def test_who_does_not_name_the_file_that_a_cluster_goes_by_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "settings-file").write_text("/etc/atria.toml\n")
    told = atria("ae", "add", "MR", "--data", tmp_path)
    assert (told.returncode, told.stdout) == (2, "")
    said = f"the cluster in {tmp_path} goes by /etc/atria.toml: name that file (--config, or ATRIA_CONFIG)"
    assert told.stderr == f"atria: {said}\n"
    assert not (tmp_path / "atria.toml").exists()
