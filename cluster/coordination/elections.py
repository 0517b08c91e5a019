"""What of an election follows from writes on conditions, wherever the store is."""

from __future__ import annotations

from typing import Protocol

from cluster.coordination.protocol import Conflict, Coordination, Lease, Term


class Elections(Coordination, Protocol):
    """The part of a `Coordination` that needs nothing but its `put` and `delete`."""

    async def resign(self, term: Term) -> None:
        """See `Coordination.resign`."""
        try:
            await self.delete(term.election, expected=term.token)
        except Conflict:
            return

    async def hand_over(self, term: Term, value: bytes, lease: Lease) -> Term:
        """See `Coordination.hand_over`."""
        return Term(term.election, await self.put(term.election, value, lease=lease, expected=term.token))
