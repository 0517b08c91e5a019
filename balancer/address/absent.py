"""What stands in where the cluster has no service address: an outer balancer, or a name, leads callers."""

from __future__ import annotations

from collections.abc import Collection

from cluster.proxy_protocol import Endpoint, IPAddress


class NoAddress:
    """Nothing is held, and nothing fails."""

    async def hold(self, until: float) -> None:
        """Hold nothing."""

    async def drop(self) -> None:
        """Drop nothing."""

    def announce(self) -> None:
        """Announce nothing."""

    async def park(self) -> None:
        """Park nothing: flows came to this host's own address, and go on there."""

    async def unpark(self) -> None:
        """Let go of nothing."""


class NoDetour:
    """Flows reach the host that they began at by themselves."""

    async def begin(self, towards: IPAddress, own: Collection[Endpoint]) -> None:
        """Send nothing on."""

    async def end(self) -> None:
        """End nothing."""
