"""`atria where`, `delete`, `undelete`, `trash`, `retain`, `repair`, `scrub`, `verify --deep` on a cluster."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from cluster.coordination.registry import Address
from deploy import pages
from tests.integration.deploy.atria import Up, atria, until, up


def answer(*arguments: object, exit_code: int = 0) -> Any:
    done = atria(*arguments, "--json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def stored(running: Up, images: list[Path]) -> tuple[str, list[str]]:
    """Store the images, and return the UIDs of their study and of each."""
    assert atria("send", "--to", running.address, *images).returncode == 0
    read = [dcmread(image) for image in images]
    return str(read[0].StudyInstanceUID), [str(image.SOPInstanceUID) for image in read]


def test_where_tells_of_each_copy(running: Up, stored: tuple[str, list[str]]) -> None:
    _, (sop, *_) = stored
    (found,) = answer("where", sop, "--data", running.data)
    (version,) = found["versions"]
    assert [(copy["site"], copy["state"]) for copy in version["copies"]] == [
        ("a", "ok"),
        ("b", "ok"),
        ("c", "ok"),
    ]
    table = atria("where", sop, "--data", running.data).stdout
    assert version["digest"] in table
    assert version["copies"][0]["key"] in table
    assert answer("where", "9.9.9", "--data", running.data, exit_code=1) == []


def test_a_study_is_deleted_and_taken_back(running: Up, stored: tuple[str, list[str]]) -> None:
    study, sops = stored
    here = ("--data", running.data)
    find = ("find", "--to", running.address, f"StudyInstanceUID={study}")
    asked = atria("delete", study, "--reason", "test", *here)
    assert asked.returncode == 1, "nobody was there to say yes"
    assert study in asked.stdout
    assert len(answer(*find)) == 1
    said = answer("delete", study, "--reason", "test", "--yes", *here)
    assert (said["decided"], said["of"], said["studies"]) == (len(sops), len(sops), 1)
    assert (said["refused"], said["nothing_of"], said["retained"]) == ([], [], 0)
    assert answer(*find) == []
    (found,) = answer("where", sops[0], *here)
    assert found["hidden"]
    assert found["facts"][0]["fact"]["reason"] == "test"
    again = atria("delete", study, "--reason", "test", "--yes", *here)
    assert again.returncode == 2
    assert "nothing of it can be deleted: all of it is so already" in again.stderr
    trash = answer("trash", *here)
    (listed,) = [one for one in trash["studies"] if one["study_instance_uid"] == study]
    assert (listed["instances"], trash["next_after"]) == (len(sops), None)
    assert study in atria("trash", *here).stdout
    said = answer("undelete", study, "9.9.9", "--yes", *here, exit_code=1)
    assert (said["decided"], said["nothing_of"]) == (len(sops), ["9.9.9"])
    assert len(answer(*find)) == 1
    assert study not in atria("trash", *here).stdout


def test_what_is_kept_is_deleted_when_it_is_released(running: Up, stored: tuple[str, list[str]]) -> None:
    study, (first, *others) = stored
    here = ("--data", running.data)
    kept = ("retain", first, "--until", "2136-12-31", "--reason", "by law", *here)
    assert answer(*kept) == {"decided": 1, "nothing_of": []}
    refused = atria("delete", study, "--reason", "test", "--yes", *here)
    assert refused.returncode == 2
    for told in (f"image {first} until 2136-12-31", "by law", "--skip-retained"):
        assert told in refused.stderr
    said = answer("delete", study, "--reason", "test", "--yes", "--skip-retained", *here)
    assert (said["decided"], said["retained"]) == (len(others), 1)
    assert answer("retain", first, "--release", "--reason", "test", *here)["decided"] == 1
    assert answer("delete", study, "--reason", "test", "--yes", *here)["decided"] == 1
    assert atria("undelete", study, "--yes", *here).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("delete", "--reason", "test"), "name what is meant"),
        (("retain", "1.2", "--reason", "test"), "either --until YYYY-MM-DD or --release"),
        (("retain", "1.2", "--reason", "test", "--until", "2036", "--release"), "either --until"),
        (("retain", "1.2", "--reason", "test", "--until", "2000-01-01"), "has come already"),
        (("retain", "1.2", "--reason", "test", "--until", "soon"), "expected a day as 2036-12-31"),
    ],
)
def test_what_is_said_wrongly_is_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    said = atria(*arguments, "--data", tmp_path)
    assert said.returncode == 2
    assert told in said.stderr


@pytest.fixture
def alone(tmp_path: Path, images: list[Path]) -> tuple[Path, list[str]]:
    """A cluster that has the images, and runs no more."""
    with up(tmp_path / "data") as cluster:
        assert atria("send", "--to", cluster.address, *images).returncode == 0
        cluster.end()
    return tmp_path / "data", [str(dcmread(image).SOPInstanceUID) for image in images]


def test_what_is_damaged_is_found_by_scrub_and_mended_by_repair(alone: tuple[Path, list[str]]) -> None:
    data, sops = alone
    assert answer("verify", "--deep", "--data", data)["complete"]
    (damaged,) = (data / "site-b/objects").rglob(f"{sops[0]}/*.dcm")
    damaged.chmod(0o600)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (gone,) = (data / "site-c/objects").rglob(f"{sops[1]}/*.dcm")
    gone.unlink()
    assert answer("scrub", "--data", data)["read"] == 0, "nothing is due"
    report = answer("verify", "--deep", "--data", data, exit_code=1)
    assert [site["missing"] for site in report["sites"]] == [0, 1, 1]
    assert "`atria repair` does so now" in atria("verify", "--deep", "--data", data).stdout
    assert answer("scrub", "--all", "--data", data, exit_code=1)["bad"] == 2
    repaired = answer("repair", "--data", data)
    assert repaired["done"]
    assert repaired["repaired"]["paid"] == 2
    assert damaged.read_bytes() == content
    assert answer("verify", "--deep", "--data", data)["complete"]
    assert "Nothing is owed" in atria("repair", "--data", data).stdout
    assert "All of them are right" in atria("scrub", "--all", "--data", data).stdout


def test_the_status_page_of_upkeep_tells_of_its_rounds(running: Up) -> None:
    def rounds() -> dict[str, Any]:
        upkeep = running.process_named("upkeep")
        assert upkeep is not None
        host, port = upkeep.http.rsplit(":", 1)
        page = asyncio.run(pages.fetch(Address(host, int(port)), "/status"))
        found: dict[str, Any] = page.json()["rounds"]
        return found

    assert set(rounds()) == {
        *("repair", "rebuild", "fill", "anti_entropy", "listing", "purging", "collection", "scrub"),
    }
    until(lambda: all("ended_at" in (rounds()[name] or {}) for name in ("repair", "anti_entropy")))
