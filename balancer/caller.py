"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.proxy_protocol import IPAddress


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of the requestor of an association, and of whom it calls."""

    source: IPAddress
    called_ae: str | None = None
    calling_ae: str | None = None
    """Both are None where TLS is passed through: only the worker can read them."""
