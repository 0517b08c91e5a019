"""What one association may take at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UpperLayerLimits:
    """Limits of one association, each with its unit in its name."""

    max_pdu_length_bytes: int = MIB
    """Largest P-DATA-TF variable field that we announce, and the largest that we send (PS3.8 D.1.1)."""
    artim_timeout_s: float = 30.0
    """ARTIM: how long a connection may stay without its A-ASSOCIATE-RQ, or without its end (PS3.8 9.1.5).
    We wait as long for the answers to an A-ASSOCIATE-RQ and an A-RELEASE-RQ."""
    idle_timeout_s: float = 600.0
    """How long a peer may be silent between two messages, or before it answers a request."""
    message_timeout_s: float = 60.0
    """How long a peer may be silent in the middle of a message, or take nothing of what we send."""
    connect_timeout_s: float = 5.0
    associate_rq_limit_bytes: int = MIB
    """Largest A-ASSOCIATE PDU that is read."""
    command_set_limit_bytes: int = 64 * 1024
    receive_window_bytes: int = 2 * MIB
    """How much of the peer's data is held while nobody reads it; then the peer has to wait."""
