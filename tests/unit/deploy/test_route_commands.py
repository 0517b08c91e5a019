"""`atria route`: routes for all associations, and those that are never taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.deploy.commands import Atria

NEVER = "route 2 is never taken: what it is for goes by route 1"


@pytest.fixture
def atria(atria: Atria, monkeypatch: pytest.MonkeyPatch) -> Atria:
    """Run commands on a settings file that says nothing."""
    Path("atria.toml").write_text("")
    monkeypatch.setenv("ATRIA_CONFIG", "atria.toml")
    return atria


def test_a_route_for_all_has_to_be_asked_for(atria: Atria) -> None:
    refused = atria("route", "add", "--worker", "site=a")
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr.endswith("or --all for all associations\n")
    refused = atria("route", "add", "--all", "--calling", "CT1")
    assert (refused.code, refused.stderr.startswith("atria: --all goes without --called")) == (2, True)
    assert atria("route", "list", "--json").json == []


def test_a_route_for_all_stays_behind_those_that_are_added_later(atria: Atria) -> None:
    assert atria("route", "add", "--all", "--worker", "site=a").stderr == ""
    assert atria("route", "add", "--calling", "CT1", "--worker", "site=b").stderr == ""
    assert [one["calling_ae"] for one in atria("route", "list", "--json").json] == ["CT1", None]


def test_a_route_that_is_never_taken_is_told_when_that_comes_to_be_and_in_the_list(atria: Atria) -> None:
    assert atria("route", "add", "--source", "10.1.0.0/16", "--worker", "site=a").stderr == ""
    wider = atria("route", "add", "--source", "10.0.0.0/8", "--before", 1)
    assert wider.code == 0
    assert wider.stderr == f"atria: {NEVER}: put it before (`--before`), or remove it\n"
    assert [one["shadowed_by"] for one in atria("route", "list", "--json").json] == [[], [1]]
    assert f"{NEVER}.\n" in atria("route", "list").stdout
    assert atria("ae", "add", "MR").stderr == "", "of what has changed before"
    assert atria("route", "remove", 1).stderr == ""
    assert NEVER in atria("settings", "revert", 3).stderr
