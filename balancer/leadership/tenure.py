"""A balancer's term in the cluster's store: its lease, the key `leader`, and the list of balancers."""

from __future__ import annotations

import json
from typing import Final

from balancer.leadership.known import KEY, Known, Links, encode_links
from cluster.coordination.protocol import ABSENT, Coordination, Entry, Lease, Term

ELECTION: Final = "leader"
"""The key that tells who leads."""


class Tenure:
    """What one balancer has in the store. One caller at a time; all methods raise `CoordinationUnavailable`.

    Parameters
    ----------
    coordination : Coordination
    name : str
    lease_s : float

    Attributes
    ----------
    lease : Lease or None
        What the term hangs on, or would: kept also while it is not known whether a campaign was won.
    term : Term or None
        What was won, or was given, and is not known to be over.
    """

    def __init__(self, coordination: Coordination, name: str, lease_s: float) -> None:
        self.lease: Lease | None = None
        self.term: Term | None = None
        self._store = coordination
        self._name = name
        self._lease_s = lease_s

    async def win(self) -> Lease | None:
        """Try to lead with a new lease, and return it; None while somebody else does.

        Raises
        ------
        LeaseLost
        """
        await self.end()
        self.lease = await self._store.grant(self._lease_s)
        self.term = await self._store.campaign(ELECTION, self._name.encode(), self.lease)
        return self.lease if self.term is not None else None

    async def be_ready(self) -> Lease:
        """Return a new lease that a term can be given to."""
        await self.end()
        self.lease = await self._store.grant(self._lease_s)
        return self.lease

    def accept(self, token: int) -> None:
        """Take note that the term was given to the lease that stood ready."""
        self.term = Term(ELECTION, token)

    async def renew(self) -> float:
        """Renew the lease, and return until when it is valid.

        Raises
        ------
        LeaseLost
        """
        assert self.lease is not None
        self.lease = await self._store.keep_alive(self.lease)
        return self.lease.valid_until

    async def give(self, to: str, lease: Lease) -> Term:
        """Give the term to another balancer's lease.

        Raises
        ------
        Conflict
            The term is over.
        LeaseLost
            The other's lease is over: the term goes on.
        """
        assert self.term is not None
        return await self._store.hand_over(self.term, to.encode(), lease)

    async def confirm(self) -> None:
        """Make certain that the term was not given away, and that what was on its way will not do so.

        Raises
        ------
        Conflict
            It was given away, or is over.
        LeaseLost
        """
        assert self.term is not None
        assert self.lease is not None
        self.term = await self._store.hand_over(self.term, self._name.encode(), self.lease)

    async def end(self) -> None:
        """Lead no more: the lease ends, and with it whatever it may have won."""
        if self.lease is not None:
            await self._store.revoke(self.lease)
        self.forget()

    def forget(self) -> None:
        """Take note that the lease, and the term with it, is over or another's."""
        self.lease = self.term = None

    async def read_list(self) -> Known | None:
        """Return the list of balancers; None when there is none.

        Raises
        ------
        ValueError
            What is there is no such list.
        """
        entry: Entry | None = (await self._store.read(KEY)).entries.get(KEY)
        return None if entry is None else Known.of_entry(entry)

    async def write_list(self, links: Links, over: Known | None) -> Known:
        """Write the list during the term, if it is still the one that was known.

        Raises
        ------
        Conflict
        """
        expected = ABSENT if over is None else over.revision
        value = json.dumps(encode_links(links)).encode()
        return Known(links, await self._store.put(KEY, value, expected=expected, during=self.term))
