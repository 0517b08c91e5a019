"""Who was there last, kept on disk: a process that starts while the store is away goes by that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import structlog

from cluster.coordination.membership_file import MembershipFile
from cluster.coordination.patience import Patience
from cluster.coordination.registry import (
    Announcement,
    Kind,
    Member,
    Registry,
    RegistryUnavailable,
)
from cluster.coordination.view import bridged, visible

log = structlog.get_logger()


class RememberedRegistry:
    """A `Registry` that remembers what another one showed.

    What the other shows is the truth, also when it is nobody. Only as long as it shows nothing at all is the
    membership that is on disk taken for it; and when it comes back, those that it does not have are shown
    until they have had the time to enter themselves anew.

    Parameters
    ----------
    registry : Registry
    file : Path
        Of this process alone. Written when the membership changes in more than its load, once a second at
        most.
    cold_start_s : float
        How long the other is waited for at first.
    grace_s : float
        How long those are waited for that it does not have when it comes back.
    """

    def __init__(self, registry: Registry, file: Path, *, cold_start_s: float, grace_s: float) -> None:
        self._registry = registry
        self._file = MembershipFile(file)
        self._cold_start_s = cold_start_s
        self._grace_s = grace_s
        self._known: list[Member] | None = None

    async def announce(self, member: Member) -> Announcement:
        """See `Registry.announce`."""
        return await self._registry.announce(member)

    async def members(self, kind: Kind | None = None) -> list[Member]:
        """See `Registry.members`. Where the other does not answer in time, those that it showed last."""
        try:
            async with asyncio.timeout(self._cold_start_s):
                return await self._registry.members(kind)
        except (RegistryUnavailable, TimeoutError) as error:
            known = await self._file.read() if self._known is None else self._known
            if known is None:
                reason = str(error) or f"no answer within {self._cold_start_s:g} s"
                raise RegistryUnavailable(f"{reason}, and nobody is remembered in {self._file}") from error
            return visible(known, kind)

    async def watch(self) -> AsyncGenerator[list[Member], None]:
        """See `Registry.watch`."""
        remembered: list[Member] | None = None
        try:
            async with Patience(self._registry.watch()) as seen:
                try:
                    found = await seen.next(self._cold_start_s)
                    kept_until = 0.0
                except TimeoutError:
                    remembered = await self._file.read() if self._known is None else self._known
                    if remembered is not None:
                        log.warning("registry.remembered", file=str(self._file), members=len(remembered))
                        self._known = remembered
                        yield remembered
                    found = await seen.next(None)
                    kept_until = time.monotonic() + self._grace_s
                async with aclosing(self._bridged(remembered, found, seen, kept_until)) as memberships:
                    async for members in memberships:
                        self._file.keep(members)
                        yield members
        finally:
            await self._file.close()

    async def _bridged(
        self,
        shown: list[Member] | None,
        found: list[Member],
        seen: Patience[list[Member]],
        kept_until: float,
    ) -> AsyncGenerator[list[Member]]:
        """Yield what is found where it differs from what is shown, and until a moment with those of that."""
        while True:
            left_s = kept_until - time.monotonic()
            members = bridged(shown or [], found, keep=left_s > 0)
            if members != shown:
                shown = self._known = members
                yield members
            try:
                found = await seen.next(left_s if left_s > 0 else None)
            except TimeoutError:
                continue
