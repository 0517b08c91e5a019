"""What leading moves: the service address, the flows of a former leader, and words between balancers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.coordination.protocol import Coordination
from cluster.coordination.registry import Address, Registry
from cluster.proxy_protocol import Endpoint, IPAddress

Handler = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers a balancer that asks over the link, by name and with what it says. ValueError: that is nonsense."""


class PeerUnavailable(Exception):
    """A balancer gave no answer that can be relied on. What was asked may have happened all the same."""


class ServiceAddress(Protocol):
    """The address that modalities call, in this host's kernel. One caller at a time."""

    async def hold(self, until: float) -> None:
        """Have the address, so that the kernel itself takes it away before a moment.

        Parameters
        ----------
        until : float
            On the loop's clock, in seconds.

        Raises
        ------
        AddressFault
        """

    async def drop(self) -> None:
        """Have the address no more. No error when it is not there."""

    def announce(self) -> None:
        """Tell the network where the address is, several times (gratuitous ARP, unsolicited NA)."""

    async def park(self) -> None:
        """Have the address for the flows that run, and answer for it to nobody.

        Raises
        ------
        AddressFault
        """

    async def unpark(self) -> None:
        """End that. No error when it was not parked."""


class Detour(Protocol):
    """The way of flows that another host serves to their end."""

    async def begin(self, towards: IPAddress, own: Collection[Endpoint]) -> None:
        """Send on to a host what comes for the service address, did not begin here, and is not `own`.

        Raises
        ------
        AddressFault
        """

    async def end(self) -> None:
        """Send nothing on any more."""


class Peers(Protocol):
    """The link to the other balancers. Both sides know for certain who the other is."""

    async def call(
        self, name: str, at: Address, what: str, body: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Ask one balancer for something, and return its answer.

        Raises
        ------
        PeerUnavailable
        """


class Notebook(Protocol):
    """What a balancer still knows after it was ended and started again."""

    def read(self) -> str | None:
        """Return what was written last; None when nothing was, or it is lost."""

    def write(self, text: str) -> None:
        """Keep this instead. When it returns, a loss of power does not take it away.

        Raises
        ------
        OSError
        """


@dataclass(frozen=True, slots=True)
class Outside:
    """What a balancer's leadership works with."""

    coordination: Coordination
    registry: Registry
    notebook: Notebook
    address: ServiceAddress
    detour: Detour
    peers: Peers | None
    """None without a link: then it leads by lease only."""
    flows: Callable[[], Collection[Endpoint]]
    """The clients whose connections came in by the service address and are served here."""
