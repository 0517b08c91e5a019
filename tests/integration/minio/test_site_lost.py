"""One site does not do what it should, in every way in which a whole site can fail; then two."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from chaos.faults import Behind, BucketGone, Fault, Hung, Killed, OtherCredentials
from chaos.history import Outcome
from chaos.proxy import Mode
from tests.integration.minio.world import WRITING, World, inflicted

_SITE = "a"
"""The nearest: what is read is read there."""
_STORES_WHILE_AWAY = 3


async def _check(world: World, fault: Fault) -> None:
    """Lose a site and get it back; nobody is kept waiting for long, and nothing is out of reach."""
    await world.store(2)
    async with inflicted(fault):
        began = time.monotonic()
        await world.store(_STORES_WHILE_AWAY)
        # A site that hangs costs one time limit, not one for each instance.
        assert time.monotonic() - began < WRITING["site_timeout_s"] * 2
        await world.check_readable()
        await world.until_not_taking_writes(_SITE)
        assert world.grid.health()[_SITE].why
    await world.until_up()
    await world.repair()
    await world.check_repaired()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda world: Killed(world.servers[_SITE]), id="killed"),
        pytest.param(lambda world: Hung(world.servers[_SITE]), id="hung"),
        pytest.param(lambda world: OtherCredentials(world.servers[_SITE]), id="credentials"),
        pytest.param(lambda world: BucketGone(world.servers[_SITE], world.bucket), id="bucket"),
    ],
)
async def test_a_site_is_lost_and_comes_back(running: World, fault: Callable[[World], Fault]) -> None:
    await _check(running, fault(running))


@pytest.mark.parametrize("mode", [Mode.UNAVAILABLE, Mode.HANG, Mode.CUT, Mode.LOSE_ANSWERS])
async def test_a_site_is_out_of_reach_and_comes_back(behind_proxies: World, mode: Mode) -> None:
    await _check(behind_proxies, Behind(behind_proxies.proxies[_SITE], mode))


async def test_a_site_that_goes_and_comes_again_and_again_is_never_waited_for(running: World) -> None:
    for _ in range(3):
        async with inflicted(Hung(running.servers[_SITE])):
            await running.store()
            await running.check_readable()
        await running.store()
    await running.until_up()
    await running.repair()
    await running.check_repaired()


async def test_with_two_sites_lost_nothing_is_acknowledged_and_everything_is_read(running: World) -> None:
    await running.store(2)
    await running.repair()
    async with inflicted(Killed(running.servers["a"]), Hung(running.servers["b"])):
        attempt = await running.send(running.image())
        assert attempt.outcome is Outcome.REFUSED
        assert attempt.said.startswith("0xa700"), attempt.said
        await running.check_readable()
    await running.until_up()
    (again,) = [
        file for file in running.files.values() if file.sop_instance_uid == attempt.content.sop_instance_uid
    ]
    assert (await running.send(again)).outcome is Outcome.ACKNOWLEDGED
    await running.repair()
    await running.check_repaired()


async def test_each_site_alone_gives_everything(running: World) -> None:
    await running.store(2)
    await running.repair()
    for left in running.servers:
        others = [server for name, server in running.servers.items() if name != left]
        async with inflicted(*(Hung(server) for server in others)):
            await running.check_readable()
        await running.until_up()
