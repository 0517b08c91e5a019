"""Peers that do as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from cluster.dicom.acceptor import Acceptor
from cluster.dicom.association import Association
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from deploy.client.peer import Peer


@asynccontextmanager
async def listening(
    serve: Callable[[Association], Awaitable[None]], policy: AcceptancePolicy | None = None
) -> AsyncIterator[Peer]:
    limits = UpperLayerLimits()
    acceptor = Acceptor(policy or AcceptancePolicy(ae_title="ANY"), limits, serve)
    host, port = await acceptor.listen("127.0.0.1", 0)
    try:
        yield Peer(host, port, "ANY", "TEST", limits)
    finally:
        await acceptor.drain(5)
