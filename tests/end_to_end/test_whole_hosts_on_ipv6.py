"""Whole hosts on IPv6: what holds on IPv4 holds there."""

from __future__ import annotations

import pytest

from chaos.hosts.addresses import IPV6
from chaos.hosts.cluster import Running
from chaos.hosts.failover import Fault, drill
from tests.end_to_end.limits import LEASE_S, LIMITS_S, PATIENCE_S

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
    pytest.mark.parametrize("booted", [IPV6], indirect=True, ids=["ipv6"]),
]


async def test_a_hand_over_is_not_noticed(running: Running) -> None:
    """The stores that are sent throughout go to their end by way of the former leader."""
    outcome = await drill(running, Fault.HANDED_OVER, sending_s=5.0, watching_s=1.0, timeout_s=PATIENCE_S)
    assert outcome.longest_gap_s <= 1, outcome
    assert outcome.refused == (), outcome
    assert [one.fault for one in outcome.sent] == 3 * [None], outcome
    assert len({tenure.mac for tenure in outcome.tenures}) == 2, outcome


async def test_new_associations_succeed_soon_after_the_leaders_host_has_gone(running: Running) -> None:
    outcome = await drill(running, Fault.OFF, sending_s=4.0, watching_s=LEASE_S)
    assert outcome.outage_s <= LIMITS_S[Fault.OFF], outcome
    assert outcome.both_held_s <= 0, outcome
    assert len({tenure.mac for tenure in outcome.tenures}) == 2, outcome
