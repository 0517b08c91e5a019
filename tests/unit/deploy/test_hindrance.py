from __future__ import annotations

from datetime import UTC, datetime

from deploy.command.site import hindrance
from storage_node.grid.health import SiteHealth, SiteState
from storage_node.upkeep.fill import Report

NOW = datetime(2024, 1, 1, tzinfo=UTC)
WELL = {"a": SiteHealth(SiteState.UP, "", NOW), "c": SiteHealth(SiteState.FILLING, "lost", NOW, filling=True)}


def test_what_keeps_a_site_from_being_filled_is_the_site_that_ails() -> None:
    full = SiteHealth(SiteState.FULL, "1 MiB of room left", NOW, filling=True)
    away = SiteHealth(SiteState.DOWN, "no answer", NOW)
    report = Report(left=("c",), not_read=("c",))
    assert hindrance({**WELL, "c": full}, report) == "site c is full (1 MiB of room left)"
    assert hindrance({**WELL, "a": away}, report) == "site a is down (no answer)"


def test_where_all_are_well_it_is_what_was_not_read_or_not_copied() -> None:
    assert hindrance(WELL, Report(left=("c",), not_read=("a",))) == "not all of site a could be read"
    assert hindrance(WELL, Report(left=("c",), failed=3)) == "3 copies could not be made"
