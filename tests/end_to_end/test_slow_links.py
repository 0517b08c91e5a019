"""A host whose link is slow: everything goes on, only slower."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from chaos.hosts.cluster import Running
from chaos.hosts.observing import Loaded, under_load
from chaos.hosts.sender import Sent, send_throughout
from tests.end_to_end.limits import PATIENCE_S

pytestmark = [pytest.mark.hosts, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

BITS_PER_S = 4_000_000
"""Less than what is sent meanwhile: the link is full."""
SENDING_S = 8.0


@dataclass(frozen=True, slots=True)
class Slowed:
    seen: Loaded
    new: list[Sent]
    """What came of associations that began while the link was slow."""


async def test_one_slow_host_of_a_site_fails_nobodys_stores(running: Running) -> None:
    """It has a worker, a member of etcd, and the site's servers; the worker first asks this member."""
    slowed = await under_load_while_slow(running, "s1")
    assert_all_went_well(slowed)


async def test_a_leader_whose_link_is_slow_goes_on_to_lead(running: Running) -> None:
    leader = await running.until_led()
    slowed = await under_load_while_slow(running, leader)
    assert_all_went_well(slowed)
    assert await running.leader() == leader


async def under_load_while_slow(running: Running, host: str) -> Slowed:
    await running.until(running.is_ready, "workers that are well")
    async with under_load(running, SENDING_S, timeout_s=PATIENCE_S) as seen:
        running.network.slow_down(host, BITS_PER_S)
        try:
            new = await asyncio.gather(
                *(running.client.run(send_throughout(running.service, 4.0)) for _ in range(3))
            )
            assert running.network.held_back(host) > 0
        finally:
            running.network.speed_up(host)
    await running.until(running.is_ready, "all well again")
    return Slowed(seen, new)


def assert_all_went_well(slowed: Slowed) -> None:
    assert [one.fault for one in slowed.seen.sent] == 3 * [None]
    assert [one.fault for one in slowed.new] == 3 * [None]
    assert slowed.seen.probed.faults == []
    assert len({tenure.mac for tenure in slowed.seen.tenures}) == 1, slowed.seen.tenures
