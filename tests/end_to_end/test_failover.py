"""The balancer that leads goes, under load, on hosts of their own: callers hardly notice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chaos.hosts import cluster
from chaos.hosts.cluster import Running
from chaos.hosts.failover import Fault, drill
from tests.end_to_end.conftest import folder_for_hosts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

LEASE_S = 3.0
LIMITS_S = {
    Fault.KILLED: LEASE_S + 1,
    Fault.STOPPED: LEASE_S + 1,
    Fault.CUT_OFF: LEASE_S + 1,
    Fault.UNPLUGGED: LEASE_S + 1,
    Fault.OFF: LEASE_S + 1,
    Fault.OFF_WITH_ETCD_LEADER: LEASE_S + 4,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(programs: tuple[Path, Path]) -> AsyncIterator[Running]:
    with folder_for_hosts() as folder:
        async with cluster.running(folder, cluster.described(folder, *programs)) as running:
            yield running


@pytest.mark.parametrize("fault", LIMITS_S, ids=lambda fault: fault.name.lower())
async def test_new_associations_succeed_soon_after_a_leader_has_gone(running: Running, fault: Fault) -> None:
    outcome = await drill(running, fault)
    assert outcome.until_success_s <= LIMITS_S[fault], outcome
    assert outcome.both_held_s <= 0, outcome


async def test_a_planned_hand_over_is_not_noticed(running: Running) -> None:
    for _ in range(2):
        outcome = await drill(running, Fault.HANDED_OVER)
        assert outcome.longest_gap_s <= 1, outcome
        assert outcome.refused == (), outcome
        assert [one.fault for one in outcome.sent] == [None] * len(outcome.sent), outcome
        assert len(outcome.sent) == 3
