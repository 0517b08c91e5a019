"""Who is there, on several hosts: each process keeps an entry in the store under a lease of its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Final

import structlog

from cluster.coordination import member_json
from cluster.coordination.following import sightings
from cluster.coordination.leased_announcement import LeasedAnnouncement
from cluster.coordination.patience import Patience
from cluster.coordination.protocol import Coordination, CoordinationUnavailable, Revision, Snapshot
from cluster.coordination.registry import Kind, Member, RegistryUnavailable
from cluster.coordination.view import bridged, visible

log = structlog.get_logger()

_PREFIX: Final = "members/"


def grace_s(lease_s: float) -> float:
    """Return how long members that an outage of the store has taken are waited for, after its end.

    Each of them tries to renew its lease three times in its length, and finds out once that it must be
    entered anew.
    """
    return 1.5 * lease_s


class LeasedRegistry:
    """A `Registry` in a `Coordination`, below `members/KIND/NAME/`.

    Members that vanish together with the store, or soon after it is back, are taken to be there until they
    have had time to be entered anew: what ended was the store, and not they.

    Parameters
    ----------
    coordination : Coordination
        Closed by the caller.
    lease_s : float
        How long a process that has gone is still shown, in seconds.
    patience_s : float
        How long `announce`, `update` and `withdraw` wait for a store that is away, in seconds.
    """

    def __init__(self, coordination: Coordination, lease_s: float, *, patience_s: float = 2.0) -> None:
        self._coordination = coordination
        self._lease_s = lease_s
        self._patience_s = patience_s
        self._read: dict[str, tuple[Revision, Member | None]] = {}

    async def announce(self, member: Member) -> LeasedAnnouncement:
        """See `Registry.announce`. Where the store is away, it goes on trying after it has returned."""
        key = f"{_PREFIX}{member.kind}/{member.name}/{member.pid}-{secrets.token_hex(4)}"
        announcement = LeasedAnnouncement(
            self._coordination, key, member, lease_s=self._lease_s, patience_s=self._patience_s
        )
        await announcement.enter()
        return announcement

    async def members(self, kind: Kind | None = None) -> list[Member]:
        """See `Registry.members`."""
        try:
            return visible(self._decoded(await self._coordination.read(_PREFIX)), kind)
        except CoordinationUnavailable as error:
            raise RegistryUnavailable(str(error)) from error

    async def watch(self) -> AsyncGenerator[list[Member], None]:
        """See `Registry.watch`."""
        shown: list[Member] | None = None
        found: list[Member] = []
        away, kept_until = False, 0.0
        async with Patience(sightings(self._coordination, _PREFIX)) as seen:
            while True:
                now = time.monotonic()
                try:
                    snapshot = await seen.next(kept_until - now if kept_until > now else None)
                except TimeoutError:
                    snapshot = None
                else:
                    if snapshot is None:
                        away = True
                        continue
                    found = self._decoded(snapshot)
                    if away:
                        away, kept_until = False, time.monotonic() + grace_s(self._lease_s)
                members = bridged(shown or [], found, keep=time.monotonic() < kept_until)
                if members != shown:
                    shown = members
                    yield members

    def _decoded(self, snapshot: Snapshot) -> list[Member]:
        """Return the members that entries describe; one that this release cannot read is said once."""
        self._read = {key: read for key, read in self._read.items() if key in snapshot.entries}
        for key, entry in snapshot.entries.items():
            if key not in self._read or self._read[key][0] != entry.changed:
                self._read[key] = (entry.changed, _parse(key, entry.value))
        return [member for _, member in self._read.values() if member is not None]


def _parse(key: str, value: bytes) -> Member | None:
    try:
        return member_json.decode(value)
    except ValueError as error:
        log.warning("registry.entry_unreadable", key=key, error=str(error))
        return None
