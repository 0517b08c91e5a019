"""Monitoring sees who leads, by what, for how long, and who refuses."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from tests.simulation.leadership.history import play
from tests.simulation.leadership.host import LEASE_S
from tests.simulation.leadership.world import World


def value(metric: str, /, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"atria_balancer_{metric}", labels) or 0.0


def test_a_leader_by_lease_and_by_promises_is_told_from_one_that_holds_nothing() -> None:
    async def body(world: World) -> str:
        refused = value("promises_refused_total", by="lb1")
        world.hosts["lb1"].start()
        world.hiccups = 0.0
        await asyncio.sleep(2 * LEASE_S)
        world.hosts["lb2"].start()  # its gauges take the place of the other's
        await asyncio.sleep(3 * LEASE_S)
        assert (value("role", role="standby"), value("role", role="leading")) == (1, 0)
        assert (value("leader", name="lb1"), value("leader", name="lb2")) == (1, 0)
        assert value("holds_for_seconds") == value("etcd_away_seconds") == 0
        changes = value("leader_changes_total")
        world.hosts["lb1"].kill()
        await asyncio.sleep(2 * LEASE_S)
        assert (value("role", role="leading"), value("leader", name="lb2")) == (1, 1)
        leader = world.hosts["lb2"].life
        assert leader is not None
        assert LEASE_S / 2 < leader.context.run(value, "holds_for_seconds") <= LEASE_S
        assert value("leader_changes_total") == changes + 1
        world.hosts["lb2"].reaches_store = False
        await asyncio.sleep(2 * LEASE_S)
        assert value("role", role="standby") == 1
        assert value("leader", name="lb2") == 0
        assert 0 < leader.context.run(value, "etcd_away_seconds") <= 2 * LEASE_S
        assert value("promises_refused_total", by="lb1") > refused
        return ""

    assert play(("lb1", "lb2"), 0, body)[1] == ""
