"""What operators ask of the leader through the cluster's store, and what it answers.

An order is a key with a lease of who gave it, so that it goes with him; the answer stands beside it, and
hangs on the same lease. Who leads when it comes carries it out: once, or not at all.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import structlog

from cluster.coordination import following
from cluster.coordination.protocol import Coordination, CoordinationUnavailable, Lease, LeaseLost

log = structlog.get_logger()

PREFIX: Final = "hand-over/"
ANSWER: Final = "/answer"


async def follow(
    coordination: Coordination,
    obey: Callable[[str | None], Awaitable[str | None]],
    pause_s: float,
    leads: Callable[[], bool],
) -> None:
    """Carry out each order that is first seen while this balancer leads, until cancelled.

    Parameters
    ----------
    coordination : Coordination
    obey : callable
        Hands over to a balancer, or to any (None), and returns why it did not.
    pause_s : float
        How long to wait, at most, before the store is asked again when it was away.
    leads : callable
        Whether this balancer does.
    """
    seen: set[str] = set()
    async for found in following.follow(coordination, PREFIX, longest_pause_s=pause_s):
        news = [key for key in found.entries if not key.endswith(ANSWER) and key not in seen]
        seen = {key for key in found.entries if not key.endswith(ANSWER)}
        for key in news:
            if not leads() or key + ANSWER in found.entries:
                continue
            entry = found.entries[key]
            answer = json.dumps({"refused": await obey(_addressee(entry.value))}).encode()
            try:
                await coordination.put(key + ANSWER, answer, lease=Lease(entry.lease, 0.0, 0.0))
            except (CoordinationUnavailable, LeaseLost) as error:
                log.warning("leader.order_not_answered", why=str(error))


async def give(coordination: Coordination, to: str | None, timeout_s: float) -> str | None:
    """Ask the leader to hand over, and return why it refused, or None.

    Parameters
    ----------
    coordination : Coordination
    to : str or None
        To whom; None leaves it to the leader.
    timeout_s : float
        How long that may take.

    Raises
    ------
    CoordinationUnavailable
    TimeoutError
        No leader has answered in time. It may have happened all the same.
    """
    lease = await coordination.grant(timeout_s)
    key = f"{PREFIX}{uuid.uuid4().hex}"
    try:
        async with asyncio.timeout(timeout_s):
            revision = await coordination.put(key, json.dumps({"to": to}).encode(), lease=lease)
            async with aclosing(coordination.watch(key + ANSWER, revision)) as answers:
                async for changes in answers:
                    for change in changes:
                        if change.entry is not None:
                            return json.loads(change.entry.value)["refused"]  # type: ignore[no-any-return]
    finally:
        await coordination.revoke(lease)
    raise TimeoutError


def _addressee(order: bytes) -> str | None:
    """Return whom an order names; one that makes no sense names somebody that is not there."""
    try:
        to = json.loads(order)["to"]
    except (ValueError, TypeError, KeyError):
        to = "?"
    return None if to is None else str(to)
