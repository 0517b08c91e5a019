"""A site is lost while a large instance streams to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.history import Outcome
from chaos.proxy import Mode
from tests.integration.minio.world import World

_FRAMES = 40
"""21 MB: a block is there, another on its way, and one still to come, when the site goes."""


def _switch(world: World, mode: Mode, *names: str) -> Callable[[], None]:
    def switch() -> None:
        for name in names:
            world.proxies[name].mode = mode

    return switch


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG, Mode.UNAVAILABLE, Mode.LOSE_ANSWERS])
async def test_a_site_that_goes_in_the_middle_is_owed_the_copy(behind_proxies: World, mode: Mode) -> None:
    file = behind_proxies.image(frames=_FRAMES)
    attempt = await behind_proxies.send(file, half_way=_switch(behind_proxies, mode, "a"))
    assert attempt.outcome is Outcome.ACKNOWLEDGED, attempt.said
    await behind_proxies.check_readable()
    behind_proxies.proxies["a"].mode = Mode.PASS
    await behind_proxies.until_up()
    await behind_proxies.repair()
    await behind_proxies.check_repaired()


async def test_when_two_sites_go_in_the_middle_the_sender_is_told_and_may_send_again(
    behind_proxies: World,
) -> None:
    file = behind_proxies.image(frames=_FRAMES)
    attempt = await behind_proxies.send(file, half_way=_switch(behind_proxies, Mode.CUT, "a", "b"))
    assert attempt.outcome is Outcome.REFUSED
    assert attempt.said.startswith("0xa700"), attempt.said
    _switch(behind_proxies, Mode.PASS, "a", "b")()
    await behind_proxies.until_up()
    assert (await behind_proxies.send(file)).outcome is Outcome.ACKNOWLEDGED
    await behind_proxies.repair()
    await behind_proxies.check_repaired()
