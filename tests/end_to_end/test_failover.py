"""The balancer that leads goes, under load, on hosts of their own: callers hardly notice."""

from __future__ import annotations

import asyncio

import pytest

from chaos.hosts.addresses import BALANCERS, SITES
from chaos.hosts.cluster import Running
from chaos.hosts.description import ATRIA
from chaos.hosts.failover import Fault, drill
from chaos.hosts.observing import observed
from chaos.hosts.sender import send_throughout
from deploy.render import units
from tests.end_to_end.limits import LEASE_S, LIMITS_S, PATIENCE_S

pytestmark = [pytest.mark.hosts, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


@pytest.mark.parametrize("fault", LIMITS_S, ids=lambda fault: fault.name.lower())
async def test_new_associations_succeed_soon_after_a_leader_has_gone(running: Running, fault: Fault) -> None:
    outcome = await drill(running, fault, sending_s=4.0, watching_s=LEASE_S)
    assert outcome.outage_s <= LIMITS_S[fault], outcome
    assert outcome.both_held_s <= 0, outcome


async def test_a_planned_hand_over_is_not_noticed(running: Running) -> None:
    for _ in range(2):
        outcome = await drill(running, Fault.HANDED_OVER, timeout_s=PATIENCE_S)
        assert outcome.longest_gap_s <= 1, outcome
        assert outcome.refused == (), outcome
        assert [one.fault for one in outcome.sent] == [None] * len(outcome.sent), outcome
        assert len(outcome.sent) == 3


async def test_the_leader_keeps_the_address_while_etcd_has_no_quorum(running: Running) -> None:
    leader = await running.leader()
    async with observed(running) as seen:
        await asyncio.gather(*(running.hosts[name][units.ETCD].kill() for name in ("s1", "s2")))
        await asyncio.sleep(4 * LEASE_S)
    assert await running.leader() == leader
    assert seen.longest_gap_s <= 1, seen
    assert {one.mac for one in seen.tenures} == {running.network.macs[str(leader)]}
    await asyncio.gather(*(running.hosts[name][units.ETCD].start() for name in ("s1", "s2")))
    await running.until(lambda: etcd_works(running), "etcd with a quorum")
    assert (await drill(running, Fault.HANDED_OVER, timeout_s=PATIENCE_S)).refused == ()


async def test_without_etcd_a_leader_whom_nobody_promises_anything_lets_go(running: Running) -> None:
    leader = str(await running.leader())
    (other,) = set(BALANCERS) - {leader}
    async with observed(running) as seen:
        await asyncio.gather(*(running.hosts[name][units.ETCD].kill() for name in SITES))
        running.network.drop(other, leader)
        await asyncio.sleep(2 * LEASE_S)
        assert await running.leader() is None
        running.network.let_through()
        await asyncio.sleep(2 * LEASE_S)
    assert seen.both_held_s <= 0, seen
    await asyncio.gather(*(running.hosts[name][units.ETCD].start() for name in SITES))
    await running.until(lambda: etcd_works(running), "etcd with a quorum")
    await running.until_led()


async def test_links_that_flap_never_have_two_hold_the_address(running: Running) -> None:
    async with observed(running) as seen:
        for host in (*BALANCERS, *BALANCERS):
            await running.network.flap(host, times=4, down_s=0.7, up_s=0.5)
    assert seen.both_held_s <= 0, seen
    await running.until_led()


async def test_a_cluster_that_was_all_off_has_what_it_had(running: Running) -> None:
    before = await running.client.run(send_throughout(running.service, 0.0))
    assert before.fault is None
    await asyncio.gather(*(host.power_off() for host in running.hosts.values()))
    await asyncio.gather(*(host.power_on() for host in running.hosts.values()))
    await running.until(running.is_ready, "all back")
    await running.until_led()
    done = await running.hosts["s2"].run(
        *ATRIA, "where", before.stored[0], "--json", f"--config={running.hosts['s2'].config}"
    )
    assert done.returncode == 0, done.stderr
    after = await running.client.run(send_throughout(running.service, 0.0))
    assert after.fault is None


async def test_a_cluster_that_was_all_off_takes_stores_without_etcd(running: Running) -> None:
    await asyncio.gather(*(host.power_off() for host in running.hosts.values()))
    for host in running.hosts.values():
        running.network.plug_in(host.name)
        await host.start(lambda name: name != units.ETCD)
    await running.until_led()
    await running.until(lambda: stores(running), "a store, by workers that are where they were")
    await asyncio.gather(*(host.start() for host in running.hosts.values()))
    await running.until(lambda: etcd_works(running), "etcd with a quorum")


async def stores(running: Running) -> bool:
    return (await running.client.run(send_throughout(running.service, 0.0))).fault is None


async def etcd_works(running: Running) -> bool:
    return await running.etcd_leader() is not None
