"""How processes find each other: who is there, and where.

Every process announces itself for as long as it lives. What carries the announcements (a folder on one
host, leases of a `Coordination` on several) is behind `Registry`. It is never needed to serve data: a
process that cannot read it goes on with what it last knew (design, rule 10).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

Kind: TypeAlias = Literal["worker", "balancer", "upkeep"]
"""What a process does for the cluster."""


class RegistryUnavailable(Exception):
    """The registry did not do what was asked. What was asked may have happened all the same."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a process listens: a host name or IP address, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `host:port`; an IPv6 address stands in brackets (RFC 3986 3.2.2)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Share:
    """Associations of one kind that a worker has now."""

    balancer: str
    """Name of the balancer that relays them."""
    calling_ae: str
    source: str
    """IP address of the caller."""
    associations: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has to do now."""

    associations: int = 0
    shares: tuple[Share, ...] = ()
    """The same in parts, so that who begins to balance knows what others have let in."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the cluster, as it describes itself."""

    kind: Kind
    name: str
    """Unique among the living of its kind (`worker-1`)."""
    http: Address
    """Its status pages."""
    pid: int
    version: str
    """Of Atria."""
    started_at: datetime
    """With a time zone."""
    dicom: Address | None = None
    """Where it takes associations, if it does."""
    link: Address | None = None
    """Where a balancer talks with other balancers, if it does."""
    labels: tuple[tuple[str, str], ...] = ()
    """By which routes choose workers, in order: its site, what it is for."""
    capacity: int = 0
    """Associations that a worker takes at once."""
    weight: int = 1
    """A worker of twice the weight gets twice the associations."""
    draining: bool = False
    """Whether it takes no new association, and ends when it has none left."""
    load: Load = Load()


class Announcement(Protocol):
    """A process's own entry: it stands until it is withdrawn, or the process is gone.

    As an asynchronous context manager it is withdrawn at the end of the block.
    """

    async def update(self, member: Member) -> None:
        """Describe the process anew. Who looks meanwhile sees the old or the new, never neither.

        Where the registry is on several hosts and away, it returns all the same, and the process is
        described anew when it is back.

        Raises
        ------
        RegistryUnavailable
            The old description stands.
        ValueError
            Kind or name differ from those announced.
        """

    async def withdraw(self) -> None:
        """Take the entry away. Never raises: what cannot be taken away now ends with the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.withdraw()


class Registry(Protocol):
    """Who is there."""

    async def announce(self, member: Member) -> Announcement:
        """Enter this process. When it returns, every `members` that begins later shows it.

        A process that was announced under the same kind and name and is still there is hidden by the newer
        (by `started_at`), and shows again if the newer goes first.

        Where the registry is on several hosts and away, it returns all the same: a process starts without
        it, and is entered when it is back.

        Raises
        ------
        RegistryUnavailable
        """

    async def members(self, kind: Kind | None = None) -> list[Member]:
        """Return those that are there, of one kind or of all, ordered by kind and name.

        A process that has ended, however it ended, is not shown once its lease is over: on one host that
        is the moment the kernel has ended it.

        Raises
        ------
        RegistryUnavailable
        """

    def watch(self) -> AsyncGenerator[list[Member], None]:
        """Yield the whole membership: at once, then whenever it differs from what was yielded last.

        Changes in quick succession may be yielded as one; the last state always is. The iterator neither
        ends nor raises when the registry is unavailable: it says so in the log, and yields again when it
        is back.
        """
