"""Flows that began at a former leader: by way of who leads now, and parked at the one that has led before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

import structlog

from balancer.address.faults import AddressFault
from balancer.leadership.interfaces import PeerUnavailable
from balancer.leadership.parts import Parts
from cluster.coordination.registry import Address
from cluster.proxy_protocol import IPAddress

log = structlog.get_logger()

ANSWER_TIMEOUT_S: Final = 2.0
"""How long another balancer may need for an answer that nothing else waits for."""
LOST_GIVER_ASKED: Final = 9
"""How often a former leader is asked for its flows without an answer, until they are given up."""


class FormerFlows:
    """Keeps them going for one balancer.

    Parameters
    ----------
    parts : Parts

    Attributes
    ----------
    detour_to : str or None
        The former leader that is sent what did not begin here.
    """

    def __init__(self, parts: Parts) -> None:
        self.detour_to: str | None = None
        self._stance, self._seat = parts.stance, parts.seat
        self._outside = parts.outside
        self._lease_s = parts.lease_s
        self._now = parts.now
        self._detours = 0

    async def watch(self) -> None:
        """End what no flow needs any more, until cancelled: our parked address, the detour."""
        failed = 0
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._seat.is_parked and not self._outside.flows():
                await self._seat.unpark()
            if self.detour_to is None or self._stance.prepared_by(self._now()):
                failed = 0
                continue
            detours = self._detours
            flows = await self._flows_of(self.detour_to)
            failed = failed + 1 if flows is None else 0
            if detours != self._detours:
                continue  # the answer is about an earlier one
            if flows == 0 or failed >= LOST_GIVER_ASKED:
                await self.end_detour()

    async def reason_to_wait(self, to: str) -> str | None:
        """Tell whose flows a change would reset: the next leader sends on to here, and no further."""
        former = self.detour_to
        if former in (None, to) or await self._flows_of(former) == 0:
            return None
        return (
            f"associations of {former} still run by way of this balancer:"
            f" hand over to {former}, or wait until they have ended"
        )

    async def begin_detour(self, to: str, at: Address | None) -> None:
        """Send on to a leader what did not begin here.

        Raises
        ------
        AddressFault
        OSError
            It is not known where it is.
        """
        towards = await _resolve(at)
        self._detours += 1
        await self._outside.detour.begin(towards, self._outside.flows())
        self.detour_to = to

    async def end_detour(self) -> None:
        """Send nothing on any more. Where the kernel refuses, it is tried again (`watch`)."""
        to, self.detour_to = self.detour_to, None
        if to is None:
            return
        try:
            await self._outside.detour.end()
        except AddressFault as error:
            log.warning("leader.detour_not_ended", to=to, why=str(error))
            self.detour_to = self.detour_to or to
        else:
            log.info("leader.detour_ended", to=to)

    async def parked(self, _asker: str, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tell how many flows of the time of leading still run here (`parked` of the link)."""
        return {"flows": self.parked_flows}

    @property
    def parked_flows(self) -> int:
        """How many flows of a former time of leading still run here."""
        return len(self._outside.flows()) if self._seat.is_parked else 0

    async def _flows_of(self, name: str) -> int | None:
        """Ask another for its parked flows; None when it does not tell."""
        peers, at = self._outside.peers, self._stance.link_of(name)
        if peers is None or at is None:
            return None
        try:
            return int((await peers.call(name, at, "parked", {}, ANSWER_TIMEOUT_S))["flows"])
        except (PeerUnavailable, KeyError, ValueError, TypeError):
            return None


async def _resolve(at: Address | None) -> IPAddress:
    if at is None:
        raise OSError("the leader has no link")
    try:
        return ip_address(at.host)
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
        return ip_address(found[0][4][0])
