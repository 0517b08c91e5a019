from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cluster.coordination.registry import Address, Member
from deploy.command import status
from deploy.overview import Overview, SiteState, process_of, with_views
from storage_node.catalogue.protocol import Counts

HELD = Counts(patients=1, studies=1, series=1, instances=2, versions=2, size_bytes=3, debts=0)
FULL = {"c": {"state": "full", "why": "1 MiB of room left, 2 MiB wanted"}}
UP = {"c": {"state": "up", "why": ""}}


@pytest.mark.parametrize("state", ["up", "filling"])
def test_a_site_that_answers_and_is_full_to_a_process_is_said_to_be(state: str) -> None:
    seen = with_views(SiteState("c", state, HELD), {"balancer": {}, "worker-1": UP, "upkeep": FULL})
    assert seen.state == f"{state}, but full to upkeep: 1 MiB of room left, 2 MiB wanted"
    assert seen.held == HELD


def test_the_words_of_a_state_are_joined() -> None:
    seen = with_views(SiteState("c", "up", HELD), {"worker-1": {"c": {"state": "read_only", "why": "503"}}})
    assert seen.state == "up, but read-only to worker-1: 503"


@pytest.mark.parametrize("views", [{}, {"worker-1": UP}, {"worker-1": {"c": {"state": "filling"}}}])
def test_a_site_that_all_find_well_is_as_it_was(views: dict[str, dict[str, dict[str, object]]]) -> None:
    site = SiteState("c", "up", HELD)
    assert with_views(site, views) == site


def test_a_site_that_does_not_answer_is_that_and_nothing_else() -> None:
    site = SiteState("c", "it does not answer in time")
    assert with_views(site, {"upkeep": FULL}) == site


@pytest.mark.parametrize(
    ("leadership", "expected"),
    [
        ({"leads": True, "holds_by": "lease"}, "ready, leads by lease"),
        ({"leads": True, "holds_by": "promises"}, "ready, leads by promises"),
        ({"leads": False, "holds_by": None}, "ready, stands by"),
        (None, "ready"),
    ],
)
def test_it_is_told_which_balancer_leads_and_by_what(
    leadership: dict[str, object] | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = {"associations": 0} if leadership is None else {"associations": 0, "leadership": leadership}
    balancer = Member("balancer", "lb1", Address("h", 8112), 1, "0", datetime.now(UTC))
    process = process_of(balancer, "ready", page)
    assert (process.leads, process.holds_by) == (
        (None, None) if leadership is None else (leadership["leads"], leadership["holds_by"])
    )
    status.print_tables(Overview("/data", (process,), ()))
    line = next(line for line in capsys.readouterr().out.splitlines() if "lb1" in line)
    assert expected in line
    assert expected != "ready" or "," not in line
