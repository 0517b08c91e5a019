"""The store on etcd, over gRPC.

A request that had no answer is put to the next member, and so may reach the store twice, the second time
long after: a member that was stopped goes on with what it had received when it wakes. So no write is sent
that would do harm then. Each is a transaction on the revision at which its key was changed last, also one
for which the caller set no condition; when it is repeated and finds its condition broken, it looks whether
that was its own first try. What remains undecided raises `CoordinationUnavailable`, never `Conflict`.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
from grpc import StatusCode
from pyetcd import etcdrpc

from cluster.coordination import etcd_watch
from cluster.coordination.elections import Elections
from cluster.coordination.etcd_members import Answer, Attempt, MemberFailed, Members
from cluster.coordination.protocol import (
    ABSENT,
    Change,
    Conflict,
    CoordinationUnavailable,
    Entry,
    Lease,
    LeaseLost,
    Revision,
    Snapshot,
    Term,
)
from cluster.settings.coordination import Etcd

_REWRITES: Final = 16
"""How often an unconditional write begins anew because others wrote the key meanwhile."""


@dataclass(frozen=True, slots=True)
class _Write:
    """A change of one key, on conditions."""

    key: bytes
    value: bytes | None
    """None: the key is removed."""
    lease: int
    conditions: tuple[tuple[bytes, Revision], ...]
    """Keys, and when each must have been changed last."""

    def request(self) -> Any:
        change = (
            etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=self.key))
            if self.value is None
            else etcdrpc.RequestOp(
                request_put=etcdrpc.PutRequest(key=self.key, value=self.value, lease=self.lease)
            )
        )
        return etcdrpc.TxnRequest(
            compare=[
                etcdrpc.Compare(
                    key=key,
                    target=etcdrpc.Compare.MOD,
                    result=etcdrpc.Compare.EQUAL,
                    mod_revision=revision,
                )
                for key, revision in self.conditions
            ],
            success=[change],
            failure=[etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=self.key))],
        )

    def is_done_by(self, entry: Entry | None) -> bool:
        """Tell whether the key is as this write leaves it."""
        if entry is None or self.value is None:
            return entry is None and self.value is None
        return (entry.value, entry.lease) == (self.value, self.lease)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a write."""

    done: bool
    """Whether its conditions held."""
    revision: Revision
    """Of the store, when it was tried."""
    entry: Entry | None
    """What was found at the key instead."""
    repeated: bool
    """Whether an earlier try had no answer."""

    @property
    def found(self) -> Revision:
        """When the key was changed last instead."""
        return ABSENT if self.entry is None else self.entry.changed


class EtcdCoordination(Elections):
    """A `Coordination` on an etcd cluster.

    Parameters
    ----------
    settings : Etcd
        With at least one endpoint. Nothing is opened before the first request.
    """

    def __init__(self, settings: Etcd) -> None:
        self._prefix = settings.prefix
        self._members = Members(settings)
        self._timeout_s = settings.timeout_s

    async def grant(self, ttl_s: float) -> Lease:
        """See `Coordination.grant`. One that we do not learn of holds no key, and runs out."""
        request = etcdrpc.LeaseGrantRequest(TTL=math.ceil(ttl_s))

        async def ask(attempt: Attempt) -> Lease:
            began = time.monotonic()
            answer = await attempt.member.lease.LeaseGrant(request, **attempt.options())
            return Lease(answer.ID, answer.TTL, began + answer.TTL)

        return await self._ask(ask)

    async def keep_alive(self, lease: Lease) -> Lease:
        """See `Coordination.keep_alive`.

        A leader of etcd that was stopped or cut off may renew leases for a moment although another has taken
        its place (etcd issue 15247). A read that needs the majority, in the same term, shows that it had not.
        """
        request = etcdrpc.LeaseKeepAliveRequest(ID=lease.id)
        nothing = etcdrpc.RangeRequest(key=self._key(""), count_only=True)

        async def ask(attempt: Attempt) -> Lease:
            began = time.monotonic()
            stream = attempt.member.lease.LeaseKeepAlive(**attempt.options())
            try:
                await stream.write(request)
                answer = await stream.read()
            finally:
                stream.cancel()
            if answer is grpc.aio.EOF:
                raise MemberFailed("ended a keep-alive")
            if answer.TTL <= 0:
                raise LeaseLost(f"lease {lease.id:x} is over")
            confirmed = await attempt.member.kv.Range(nothing, **attempt.options())
            if confirmed.header.raft_term != answer.header.raft_term:
                raise MemberFailed("may have renewed a lease by a former leader")
            return Lease(lease.id, answer.TTL, began + answer.TTL)

        return await self._ask(ask)

    async def revoke(self, lease: Lease) -> None:
        """See `Coordination.revoke`."""
        request = etcdrpc.LeaseRevokeRequest(ID=lease.id)

        async def ask(attempt: Attempt) -> None:
            await attempt.member.lease.LeaseRevoke(request, **attempt.options())

        try:
            await self._ask(ask)
        except LeaseLost:
            return

    async def read(self, prefix: str) -> Snapshot:
        """See `Coordination.read`."""
        key = self._key(prefix)
        answer = await self._range(etcdrpc.RangeRequest(key=key, range_end=etcd_watch.end_of(key)))
        return Snapshot(
            answer.header.revision,
            {found.key.decode("utf-8").removeprefix(self._prefix): _entry(found) for found in answer.kvs},
        )

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | None = None,
        expected: Revision | None = None,
        during: Term | None = None,
    ) -> Revision:
        """See `Coordination.put`.

        Without a lease, an equal value that somebody else wrote while a try of ours had no answer is taken
        for ours.
        """
        return await self._change(key, value, lease.id if lease else 0, expected, during)

    async def delete(
        self, key: str, *, expected: Revision | None = None, during: Term | None = None
    ) -> Revision:
        """See `Coordination.delete`."""
        return await self._change(key, None, 0, expected, during)

    def watch(self, prefix: str, after: Revision) -> AsyncGenerator[Sequence[Change]]:
        """See `Coordination.watch`."""
        return etcd_watch.watch(self._members, self._prefix, prefix, after, timeout_s=self._timeout_s)

    async def campaign(self, election: str, value: bytes, lease: Lease) -> Term | None:
        """See `Coordination.campaign`."""
        where = self._key(election)
        write = _Write(where, value, lease.id, ((where, ABSENT),))
        outcome = await self._write(write)
        if outcome.done:
            return Term(election, outcome.revision)
        return Term(election, outcome.found) if write.is_done_by(outcome.entry) else None

    async def close(self) -> None:
        """See `Coordination.close`."""
        await self._members.close()

    async def _change(
        self, key: str, value: bytes | None, lease: int, expected: Revision | None, during: Term | None
    ) -> Revision:
        """Write a key on the caller's conditions; where it sets none on the key, on that of now."""
        where = self._key(key)
        term = () if during is None else ((self._key(during.election), during.token),)
        for _ in range(_REWRITES):
            seen = await self._changed(where) if expected is None else expected
            write = _Write(where, value, lease, ((where, seen), *term))
            outcome = await self._write(write)
            if outcome.done:
                return outcome.revision
            if outcome.repeated and (outcome.found != seen or seen == ABSENT):
                return self._settled(key, write, outcome)
            if outcome.found == seen:
                raise Conflict(f"{key}: the term in which it was to be written is over")
            if expected is not None:
                raise Conflict(f"{key}: changed at {outcome.found}, expected at {expected}")
        raise CoordinationUnavailable(f"{key}: others wrote it {_REWRITES} times while it was to be written")

    def _settled(self, key: str, write: _Write, outcome: _Outcome) -> Revision:
        """Tell whether a write happened at the try that had no answer."""
        if not write.is_done_by(outcome.entry):
            raise CoordinationUnavailable(
                f"{key}: an etcd member failed while it was written, perhaps in vain"
            )
        return outcome.found or outcome.revision

    async def _write(self, write: _Write) -> _Outcome:
        request = write.request()

        async def ask(attempt: Attempt) -> _Outcome:
            answer = await attempt.member.kv.Txn(request, **attempt.options())
            kvs = () if answer.succeeded else answer.responses[0].response_range.kvs
            entry = _entry(kvs[0]) if kvs else None
            return _Outcome(answer.succeeded, answer.header.revision, entry, attempt.repeated)

        return await self._ask(ask)

    async def _changed(self, key: bytes) -> Revision:
        answer = await self._range(etcdrpc.RangeRequest(key=key, keys_only=True))
        return answer.kvs[0].mod_revision if answer.kvs else ABSENT

    async def _range(self, request: Any) -> Any:
        async def ask(attempt: Attempt) -> Any:
            return await attempt.member.kv.Range(request, **attempt.options())

        return await self._ask(ask)

    async def _ask(self, question: Callable[[Attempt], Awaitable[Answer]]) -> Answer:
        try:
            return await self._members.ask(question)
        except grpc.aio.AioRpcError as error:
            said = f"etcd: {error.code().name}, {error.details()}"
            if error.code() is StatusCode.NOT_FOUND and "lease" in (error.details() or ""):
                raise LeaseLost(said) from error
            raise CoordinationUnavailable(said) from error

    def _key(self, key: str) -> bytes:
        return f"{self._prefix}{key}".encode()


def _entry(found: Any) -> Entry:
    return Entry(found.value, found.mod_revision, found.lease)
