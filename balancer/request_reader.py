"""What puts together the first bytes of a caller: an A-ASSOCIATE-RQ, or the beginning of TLS."""

from __future__ import annotations

from typing import Protocol

from balancer.associate_rq import AssociateRq


class RequestReader(Protocol):
    """Puts together what a caller says first."""

    @property
    def received_bytes(self) -> int:
        """How much has come."""

    @property
    def needed_bytes(self) -> int:
        """How many more bytes may be fed now."""

    def feed(self, data: bytes) -> AssociateRq | None:
        """Take bytes; return the request when it is complete, or raise `NotAnAssociateRq`."""
