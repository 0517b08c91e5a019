"""Who gives way when too many connections say nothing: pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

_PREFIX_OF_ONE_SITE: Final = 64
"""Whoever has one IPv6 address may have all of its /64 (RFC 4291 2.5.4)."""


def origin(address: IPv4Address | IPv6Address) -> Hashable:
    """Return what counts as one source."""
    if isinstance(address, IPv4Address):
        return address
    return IPv6Network((address, _PREFIX_OF_ONE_SITE), strict=False)


def giving_way(origins: Sequence[Hashable], count: int) -> list[int]:
    """Choose connections to close: of the source that has most of them the oldest, time after time.

    So a source that floods us takes its own places, and where many do so each connection has some time to
    speak. A caller that has something to say does so at once.

    Parameters
    ----------
    origins : sequence
        Source of each connection that may be closed, the oldest first.
    count : int
        How many places are needed.

    Returns
    -------
    list of int
        Positions in `origins`; fewer than `count` where there are no more.
    """
    by_origin: dict[Hashable, list[int]] = {}
    for position, where in enumerate(origins):
        by_origin.setdefault(where, []).append(position)
    taken = dict.fromkeys(by_origin, 0)
    most = [(-len(positions), positions[0], where) for where, positions in by_origin.items()]
    heapq.heapify(most)
    chosen: list[int] = []
    while most and len(chosen) < count:
        size, position, where = most[0]
        chosen.append(position)
        taken[where] += 1
        if size + 1 < 0:
            heapq.heapreplace(most, (size + 1, by_origin[where][taken[where]], where))
        else:
            heapq.heappop(most)
    return chosen
