"""A watch on etcd that never stands still unnoticed.

A stream that is quiet is asked for its progress; one that does not answer is given up, and the next member
goes on after the last change that was seen. `hasleader` lets a member that has lost its leader end the
stream by itself, so one in a minority does not hold us.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import grpc.aio
import structlog
from pyetcd import etcdrpc

from cluster.coordination.etcd_members import Attempt, Member, MemberFailed, Members, Metadata
from cluster.coordination.protocol import Change, Compacted, CoordinationUnavailable, Entry, Revision

log = structlog.get_logger()

_PAUSE_S: Final = 0.05
"""Before a stream is built anew."""
_DELETED: Final = 1
"""`mvccpb.Event.DELETE`."""


def end_of(prefix: bytes) -> bytes:
    """Return the first key after all that begin with `prefix`, as etcd wants it in `range_end`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


async def watch(
    members: Members, base: str, prefix: str, after: Revision, *, timeout_s: float
) -> AsyncGenerator[Sequence[Change]]:
    """Yield the changes below a prefix after a revision, from one member or another.

    Parameters
    ----------
    members : Members
    base : str
        What all keys begin with, and what is taken off them.
    prefix : str
    after : int
    timeout_s : float
        How long a stream may be quiet, and how long it may then take to answer.

    Raises
    ------
    Compacted
        The history after that revision is no more, or the store has another one: it was restored.
    CoordinationUnavailable
        No member got on within the time limit.
    """
    key = f"{base}{prefix}".encode()
    seen = after
    failing_since: float | None = None
    while True:
        member = members.first
        try:
            async with aclosing(_responses(members, member, key, seen + 1, timeout_s)) as responses:
                async for response in responses:
                    failing_since = None
                    if response.events:
                        seen = response.events[-1].kv.mod_revision
                        yield [_change(event, base) for event in response.events]
        except (grpc.aio.AioRpcError, MemberFailed) as error:
            said = members.failed(member, error)
            log.info("etcd.watch_rebuilt", endpoint=member.endpoint, failure=said)
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since >= members.time_limit_s:
                raise CoordinationUnavailable(
                    f"etcd lets no watch get on: {member.endpoint}: {said}"
                ) from error
        await asyncio.sleep(_PAUSE_S)
        await _check_history(members, key, seen)


async def _responses(
    members: Members, member: Member, key: bytes, start: Revision, timeout_s: float
) -> AsyncGenerator[Any]:
    """Yield what one member says, for as long as it gets on."""
    metadata = await members.metadata(member, timeout_s)
    request = etcdrpc.WatchCreateRequest(key=key, range_end=end_of(key), start_revision=start)
    stream = member.watch.Watch(metadata=_led(metadata))
    reading = asyncio.ensure_future(stream.read())
    try:
        await _write(stream, etcdrpc.WatchRequest(create_request=request), timeout_s)
        asked = True
        while True:
            done, _ = await asyncio.wait({reading}, timeout=timeout_s)
            if done:
                response = _checked(reading.result())
                reading = asyncio.ensure_future(stream.read())
                asked = False
                yield response
            elif asked:
                raise MemberFailed("stands still")
            else:
                progress = etcdrpc.WatchProgressRequest()
                await _write(stream, etcdrpc.WatchRequest(progress_request=progress), timeout_s)
                asked = True
    finally:
        stream.cancel()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _write(stream: Any, request: Any, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await stream.write(request)
    except (TimeoutError, asyncio.InvalidStateError) as error:
        raise MemberFailed("takes no request") from error


def _checked(response: Any) -> Any:
    if response is grpc.aio.EOF:
        raise MemberFailed("ended the stream")
    if response.compact_revision:
        raise Compacted(f"the history before revision {response.compact_revision} is no more")
    if response.canceled:
        raise MemberFailed(response.cancel_reason or "cancelled the watch")
    return response


async def _check_history(members: Members, key: bytes, seen: Revision) -> None:
    """See that the store still has the history that we followed: one restored from a backup is behind it."""
    request = etcdrpc.RangeRequest(key=key, count_only=True)

    async def ask(attempt: Attempt) -> Revision:
        answer = await attempt.member.kv.Range(request, **attempt.options())
        return int(answer.header.revision)

    try:
        revision = await members.ask(ask)
    except grpc.aio.AioRpcError as error:
        raise CoordinationUnavailable(f"etcd: {error.code().name}, {error.details()}") from error
    if revision < seen:
        raise Compacted(f"the store is at revision {revision}, and was at {seen}: it was restored")


def _led(metadata: Metadata) -> Metadata:
    return (*metadata, ("hasleader", "true"))


def _change(event: Any, base: str) -> Change:
    found = event.kv
    key = found.key.decode("utf-8").removeprefix(base)
    gone = event.type == _DELETED
    entry = None if gone else Entry(found.value, found.mod_revision, found.lease)
    return Change(key, entry, found.mod_revision)
