"""Which routes no association ever takes, as others before them take all of theirs: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final, TypeAlias

from cluster.settings import Route

Network: TypeAlias = IPv4Network | IPv6Network

_ANYWHERE: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def shadowed(routes: Sequence[Route]) -> dict[int, tuple[int, ...]]:
    """Return the routes that are never taken, and which take what they are for.

    Parameters
    ----------
    routes : sequence of Route
        In the order in which they are tried (`routing.route_of`).

    Returns
    -------
    dict of int to tuple of int
        By the index of a route that is never taken, the indices of those before it that take all of its: one,
        where one does, and else those that do so together.
    """
    found = {index: _takers(route, routes[:index]) for index, route in enumerate(routes)}
    return {index: takers for index, takers in found.items() if takers}


def _takers(route: Route, earlier: Sequence[Route]) -> tuple[int, ...]:
    """Return the indices of those that take all that a route is for; none where something is left to it.

    There are more AE titles than routes can name, so those without one cannot be taken title by title; a
    network can be taken part by part.
    """
    sources = {
        index: one.source
        for index, one in enumerate(earlier)
        if one.called_ae in (None, route.called_ae) and one.calling_ae in (None, route.calling_ae)
    }
    for index, source in sources.items():
        if _are_within(route.source, [source]):
            return (index,)
    if not _are_within(route.source, sources.values()):
        return ()
    return tuple(index for index, source in sources.items() if _meet(route.source, source))


def _are_within(source: Network | None, others: Iterable[Network | None]) -> bool:
    """Return whether all addresses of a network (None: all that there are) are in one of the others."""
    parts = [part for other in others for part in _networks(other)]
    return all(_is_within(one, parts) for one in _networks(source))


def _is_within(network: Network, parts: Iterable[Network]) -> bool:
    if isinstance(network, IPv4Network):
        merged4 = collapse_addresses(part for part in parts if isinstance(part, IPv4Network))
        return any(network.subnet_of(one) for one in merged4)
    merged6 = collapse_addresses(part for part in parts if isinstance(part, IPv6Network))
    return any(network.subnet_of(one) for one in merged6)


def _meet(source: Network | None, other: Network | None) -> bool:
    return any(one.overlaps(two) for one in _networks(source) for two in _networks(other))


def _networks(source: Network | None) -> tuple[Network, ...]:
    return _ANYWHERE if source is None else (source,)
