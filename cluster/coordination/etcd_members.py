"""The members of an etcd cluster, asked one after the other until one answers.

A member that is hung, cut off or gone costs one time limit, once: who answered last is asked first, and who
failed last is asked last. What a member refuses for good (a lease that is over, a revision that is no
more) is no failure of that member, and goes to whom it concerns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from grpc import StatusCode
from prometheus_client import Counter
from pyetcd import etcdrpc

from cluster.certificates import Stamp, stamps
from cluster.coordination import etcd_channel
from cluster.coordination.protocol import CoordinationUnavailable
from cluster.settings.coordination import Etcd

FAILURES: Final = Counter(
    "atria_etcd_failures_total", "Requests that an etcd member did not answer in time", ["endpoint", "code"]
)

_PAUSE_S: Final = 0.05
"""Between two rounds of all members: without a leader each refuses at once."""

_ELSEWHERE: Final = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.CANCELLED,
        StatusCode.ABORTED,
        StatusCode.INTERNAL,
        StatusCode.UNKNOWN,
        StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""How a member fails, where another may do better. The request may have been carried out all the same."""

_TOKEN_REFUSED: Final = (
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
)
"""What etcd says before it does anything, where a new token helps."""

Answer = TypeVar("Answer")
Metadata: TypeAlias = tuple[tuple[str, str], ...]


class Member:
    """One member, with its connection and its services."""

    def __init__(self, endpoint: str, settings: Etcd) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._stamps = self._look()
        self._channel = etcd_channel.opened(endpoint, settings)
        self.kv: Any = etcdrpc.KVStub(self._channel)
        self.lease: Any = etcdrpc.LeaseStub(self._channel)
        self.watch: Any = etcdrpc.WatchStub(self._channel)
        self.auth: Any = etcdrpc.AuthStub(self._channel)

    def certificates_changed(self) -> bool:
        """Tell whether files that the connection was opened with were replaced since."""
        return self._look() != self._stamps

    async def close(self) -> None:
        """Let go of the connection; what is under way is cancelled."""
        await self._channel.close()

    def _look(self) -> tuple[Stamp, ...]:
        settings = self._settings
        return stamps(settings.ca_file, settings.certificate_file, settings.key_file)


class MemberFailed(Exception):
    """A member did not do what was asked, in another way than by a status of gRPC."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request."""

    member: Member
    deadline: float
    """On the monotonic clock, in seconds."""
    metadata: Metadata
    repeated: bool
    """Whether an earlier try of the same request had no answer, and so may have happened."""

    def options(self) -> dict[str, Any]:
        """Return what each call of this try is made with."""
        return {"timeout": max(0.0, self.deadline - time.monotonic()), "metadata": self.metadata}


class Members:
    """All members, in the order in which they are asked. Belongs to the event loop that first uses it."""

    def __init__(self, settings: Etcd) -> None:
        self._settings = settings
        self._order: list[Member] = []
        self._retired: list[Member] = []
        self._token: str | None = None
        self._authenticating = asyncio.Lock()
        self._closed = False

    @property
    def time_limit_s(self) -> float:
        """How long all members together may take."""
        return 2 * self._settings.timeout_s

    @property
    def first(self) -> Member:
        """Who is asked first.

        Raises
        ------
        CoordinationUnavailable
            A certificate cannot be read, or all was closed.
        """
        if self._closed:
            raise CoordinationUnavailable("the connections to etcd are closed")
        if not self._order:
            self._order = [Member(endpoint, self._settings) for endpoint in self._settings.endpoints]
        return self._order[0]

    def failed(self, member: Member, error: grpc.aio.AioRpcError | MemberFailed) -> str:
        """Ask a member last from now on, and return what is to be said of its failure."""
        code, said = (
            ("FAILED", str(error))
            if isinstance(error, MemberFailed)
            else (error.code().name, f"{error.code().name}, {error.details()}")
        )
        FAILURES.labels(member.endpoint, code).inc()
        if member in self._order:
            self._order.remove(member)
            self._order.append(self._renewed(member))
        return said

    def _renewed(self, member: Member) -> Member:
        """Return the member as it is to be asked again: by new certificates, if there are.

        Others may still wait for answers on the former connection: it is closed with all of them.
        """
        if not member.certificates_changed():
            return member
        try:
            renewed = Member(member.endpoint, self._settings)
        except CoordinationUnavailable:  # half of them are there: the next failure tries again
            return member
        self._retired.append(member)
        return renewed

    async def ask(self, question: Callable[[Attempt], Awaitable[Answer]]) -> Answer:
        """Put a question to one member after the other, until one answers.

        Raises
        ------
        CoordinationUnavailable
            None answered within the time limit.
        grpc.aio.AioRpcError
            One refused it.
        """
        end = time.monotonic() + self.time_limit_s
        failures: dict[str, str] = {}
        asked: set[Member] = set()
        while True:
            member = self.first
            left = end - time.monotonic()
            if left <= 0:
                said = "; ".join(f"{endpoint}: {failure}" for endpoint, failure in failures.items())
                raise CoordinationUnavailable(f"etcd did not answer within {self.time_limit_s:g} s: {said}")
            if member in asked:
                asked.clear()
                await asyncio.sleep(min(_PAUSE_S, left))
            try:
                return await self._ask_one(
                    member, question, min(self._settings.timeout_s, left), repeated=bool(failures)
                )
            except (grpc.aio.AioRpcError, MemberFailed) as error:
                if isinstance(error, grpc.aio.AioRpcError) and error.code() not in _ELSEWHERE:
                    raise
                failures[member.endpoint] = self.failed(member, error)
                asked.add(member)

    async def _ask_one(
        self,
        member: Member,
        question: Callable[[Attempt], Awaitable[Answer]],
        timeout_s: float,
        *,
        repeated: bool,
    ) -> Answer:
        deadline = time.monotonic() + timeout_s
        metadata = await self.metadata(member, timeout_s)
        try:
            return await question(Attempt(member, deadline, metadata, repeated))
        except grpc.aio.AioRpcError as error:
            if self._settings.user is None or not _refuses_token(error):
                raise
        metadata = await self.metadata(member, timeout_s, instead_of=metadata)
        return await question(Attempt(member, deadline, metadata, repeated))

    async def metadata(
        self, member: Member, timeout_s: float, *, instead_of: Metadata | None = None
    ) -> Metadata:
        """Return what goes with each request: a token, where we are a user.

        Parameters
        ----------
        member : Member
            Who is asked for a token, if none is there.
        timeout_s : float
        instead_of : tuple, optional
            What was refused.

        Raises
        ------
        CoordinationUnavailable
            The password cannot be read.
        grpc.aio.AioRpcError
        """
        if self._settings.user is None:
            return ()
        async with self._authenticating:
            if self._token is None or instead_of == _carrying(self._token):
                self._token = await self._authenticate(member, timeout_s)
            return _carrying(self._token)

    async def _authenticate(self, member: Member, timeout_s: float) -> str:
        assert self._settings.password_file is not None
        password = etcd_channel.read(self._settings.password_file).decode("utf-8").partition("\n")[0]
        request = etcdrpc.AuthenticateRequest(name=self._settings.user, password=password)
        try:
            answer = await member.auth.Authenticate(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is StatusCode.FAILED_PRECONDITION:  # authentication is off: go on without
                return ""
            raise
        return str(answer.token)

    async def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        members, self._order, self._retired = [*self._order, *self._retired], [], []
        for member in members:
            await member.close()


def _refuses_token(error: grpc.aio.AioRpcError) -> bool:
    return any(part in (error.details() or "") for part in _TOKEN_REFUSED)


def _carrying(token: str) -> Metadata:
    return (("token", token),) if token else ()
