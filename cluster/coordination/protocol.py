"""What the cluster agrees on: a small store of keys with revisions, leases that end, and who leads.

It orders what is rare (who leads, what the settings are, who is there) and never stands in the way of data: a
process that cannot reach it goes on with what it last knew (design, rules 9 and 10). Every step has an end:
what takes longer than the store's time limit raises `CoordinationUnavailable`, and then may have happened.

Time is the caller's: a lease tells from when on *this* process's monotonic clock it must be taken for lost,
counted from before it was asked for, so that it ends here no later than at the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

Revision: TypeAlias = int
"""A point in the history of all keys; each write has a higher one than those before it."""

ABSENT: Final[Revision] = 0
"""`expected` of a key that is not to be there."""


class CoordinationUnavailable(Exception):
    """No answer that can be relied on came in time. What was asked may have happened all the same."""


class Conflict(Exception):
    """A condition of a write did not hold: nothing was written."""


class LeaseLost(Exception):
    """The lease is over, and what was put with it has gone."""


class Compacted(Exception):
    """The history since that revision is no more: read anew, and watch from there."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to hold keys, for as long as it is renewed."""

    id: int
    ttl_s: float
    """How long the store keeps it after each renewal, as the store granted it: may be more than was asked."""
    valid_until: float
    """On the caller's monotonic clock, in seconds: from then on it may have run out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value."""

    value: bytes
    changed: Revision
    """When it was written last."""
    lease: int = 0
    """Id of the lease with which it goes; 0 without one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys below a prefix at one moment."""

    revision: Revision
    """Of the store: a watch after it misses nothing."""
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Change:
    """One key, written or gone."""

    key: str
    entry: Entry | None
    """None: it is gone, deleted or with its lease."""
    revision: Revision


@dataclass(frozen=True, slots=True)
class Term:
    """A time of leading, from a campaign that was won to the end of its lease or its resignation."""

    election: str
    """The key that stands for it."""
    token: Revision
    """Fencing token: each later term of the same election has a higher one."""


class Coordination(Protocol):
    """The store. Keys are text; those of one cluster do not meet those of another.

    All methods raise `CoordinationUnavailable`. Reads and conditions are linearizable: they know of every
    write that was confirmed before they began, whoever made it. So a minority of the store's members answers
    nothing.
    """

    async def grant(self, ttl_s: float) -> Lease:
        """Return a new lease, which runs out unless it is renewed."""

    async def keep_alive(self, lease: Lease) -> Lease:
        """Renew a lease, and return it with its new end.

        Raises
        ------
        LeaseLost
        """

    async def revoke(self, lease: Lease) -> None:
        """End a lease now, with what was put with it. One that has ended is no error."""

    async def read(self, prefix: str) -> Snapshot:
        """Return all keys that begin with `prefix`."""

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | None = None,
        expected: Revision | None = None,
        during: Term | None = None,
    ) -> Revision:
        """Write a key, and return the revision: when it returns, every read that begins later knows it.

        Parameters
        ----------
        key : str
        value : bytes
        lease : Lease, optional
            With which the key goes; without one it stays, also when it had one before.
        expected : int, optional
            Write only if the key was changed last at this revision, or is not there (`ABSENT`).
        during : Term, optional
            Write only while this term lasts: by this a former leader's late write is refused.

        Raises
        ------
        Conflict
        LeaseLost
        """

    async def delete(
        self, key: str, *, expected: Revision | None = None, during: Term | None = None
    ) -> Revision:
        """Remove a key, as `put` writes one. One that is not there is no error, unless it was expected.

        Raises
        ------
        Conflict
        """

    def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        """Yield every change below `prefix` after a revision, once each, in order, until closed.

        A stream that makes no progress is rebuilt at another of the store's members, unseen. It raises when
        none of them lets it get on within the time limit.

        Raises
        ------
        Compacted
        """

    async def campaign(self, election: str, value: bytes, lease: Lease) -> Term | None:
        """Try once to lead, for as long as the lease lasts; None while somebody else does.

        Who leads already, with this value and lease, gets the same term again: an earlier try may have been
        won unseen.

        At no moment do two lead, by the store's reckoning of their leases. Who leads is what `read` finds at
        the key `election`: `value`, with the token as the revision of its change.

        Raises
        ------
        LeaseLost
        """

    async def resign(self, term: Term) -> None:
        """Lead no more. A term that is over is no error."""

    async def hand_over(self, term: Term, value: bytes, lease: Lease) -> Term:
        """Let somebody else lead, with a lease of theirs, without a moment in which nobody does.

        Raises
        ------
        Conflict
            The term is over.
        LeaseLost
            The lease that was to lead is over: the term goes on.
        """

    async def close(self) -> None:
        """Let go of connections. What was put with leases stays until they run out."""
