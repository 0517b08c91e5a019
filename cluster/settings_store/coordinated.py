"""The shared settings of several hosts, in what they agree on by a `Coordination`.

`settings/current` is the revision that holds: who writes it expects the one that he read, so two operators
never overwrite each other. `settings/history/NNNNNNNN` are those before. A revision is put there before it is
replaced, and is the same whoever does that: so none is missing, wherever somebody stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

import structlog

from cluster.coordination.following import follow
from cluster.coordination.protocol import (
    ABSENT,
    Conflict,
    Coordination,
    CoordinationUnavailable,
    Entry,
    Revision,
    Snapshot,
)
from cluster.settings import shared
from cluster.settings.shared import Document, SharedSettings
from cluster.settings.values import SettingsError
from cluster.settings_store.codec import decode, encode
from cluster.settings_store.protocol import REVISIONS_KEPT, Change, SettingsRevision, SettingsUnavailable

CURRENT: Final = "settings/current"
HISTORY: Final = "settings/history/"
_ATTEMPTS: Final = 100
"""How often a change is done anew, when somebody else was quicker each time."""
_SEED_PAUSE_S: Final = 1.0

log = structlog.get_logger()


class CoordinatedSettings:
    """A `SettingsStore` in a `Coordination`.

    Parameters
    ----------
    coordination : Coordination
    seed : SharedSettings
        What holds in a cluster that never had any settings. Afterwards nobody asks for it any more, unless
        the store loses everything: then what was seen there last is put back.
    by, why : str
        Kept with that revision.
    """

    def __init__(self, coordination: Coordination, seed: SharedSettings, *, by: str, why: str) -> None:
        self._coordination = coordination
        self._seed: Document = shared.document(seed)
        self._by = by
        self._why = why

    async def current(self) -> SettingsRevision | None:
        """See `SettingsStore.current`."""
        entry = (await self._read(CURRENT)).entries.get(CURRENT)
        return None if entry is None else _decoded(CURRENT, entry)

    async def history(self) -> list[SettingsRevision]:
        """See `SettingsStore.history`."""
        entries = (await self._read("settings/")).entries
        found = {
            revision.number: revision
            for key, entry in entries.items()
            if key == CURRENT or key.startswith(HISTORY)
            for revision in [_decoded(key, entry)]
        }
        return [found[number] for number in sorted(found, reverse=True)][:REVISIONS_KEPT]

    async def change(self, how: Change, *, by: str, what: str) -> SettingsRevision:
        """See `SettingsStore.change`."""
        for _ in range(_ATTEMPTS):
            last, written = await self._seeded()
            document = shared.document(how(_understood(last)))
            if document == last.document:
                return last
            revision = SettingsRevision(last.number + 1, datetime.now(UTC), by, what, document)
            try:
                await self._replace(last, written, revision)
            except Conflict:
                continue
            return revision
        raise SettingsUnavailable(f"others changed the settings {_ATTEMPTS} times: nothing was changed")

    async def watch(self) -> AsyncGenerator[SharedSettings]:
        """See `SettingsStore.watch`."""
        seen: Revision = ABSENT
        async with aclosing(follow(self._coordination, CURRENT)) as snapshots:
            async for snapshot in snapshots:
                entry = snapshot.entries.get(CURRENT)
                if entry is None:
                    await self._seed_at_last()
                elif entry.changed != seen:
                    try:
                        revision = _decoded(CURRENT, entry)
                        settings = _understood(revision)
                    except SettingsError as error:
                        log.warning("settings.kept", why=str(error))
                        continue
                    seen, self._seed = entry.changed, revision.document
                    yield settings

    async def _replace(self, last: SettingsRevision, written: Revision, revision: SettingsRevision) -> None:
        try:
            await self._coordination.put(_history_key(last.number), encode(last))
        except CoordinationUnavailable as error:
            raise SettingsUnavailable(f"{error}: nothing was changed") from error
        try:
            await self._coordination.put(CURRENT, encode(revision), expected=written)
        except CoordinationUnavailable as error:
            raise SettingsUnavailable(
                f"{error}: it cannot be told whether the settings were changed: look at their history"
            ) from error
        await self._forget(revision.number - REVISIONS_KEPT)

    async def _forget(self, number: int) -> None:
        """Remove revisions up to this one. Those that are left now go with the next change."""
        try:
            for key in (await self._coordination.read(HISTORY)).entries:
                if key <= _history_key(number):
                    await self._coordination.delete(key)
        except CoordinationUnavailable as error:
            log.warning("settings.history_not_pruned", why=str(error))

    async def _seeded(self) -> tuple[SettingsRevision, Revision]:
        """Return what holds and when it was written, the seed if there was never anything."""
        while True:
            entry = (await self._read(CURRENT)).entries.get(CURRENT)
            if entry is not None:
                return _decoded(CURRENT, entry), entry.changed
            first = SettingsRevision(1, datetime.now(UTC), self._by, self._why, self._seed)
            try:
                return first, await self._coordination.put(CURRENT, encode(first), expected=ABSENT)
            except Conflict:
                continue  # somebody else was first
            except CoordinationUnavailable as error:
                raise SettingsUnavailable(str(error)) from error

    async def _seed_at_last(self) -> None:
        said = False
        while True:
            try:
                await self._seeded()
            except SettingsUnavailable as error:
                if not said:
                    log.warning("settings.unavailable", why=str(error))
                    said = True
                await asyncio.sleep(_SEED_PAUSE_S)
            except SettingsError:
                return  # there is something after all: who follows is told
            else:
                return

    async def _read(self, prefix: str) -> Snapshot:
        try:
            return await self._coordination.read(prefix)
        except CoordinationUnavailable as error:
            raise SettingsUnavailable(f"{error}: nothing was changed") from error


def _history_key(number: int) -> str:
    return f"{HISTORY}{max(number, 0):08}"


def _understood(revision: SettingsRevision) -> SharedSettings:
    try:
        return shared.parse(revision.document)
    except SettingsError as error:
        raise SettingsError(f"revision {revision.number} is not of this release: {error}") from error


def _decoded(key: str, entry: Entry) -> SettingsRevision:
    return decode(entry.value, where=key)
