from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from structlog.testing import capture_logs

from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import CoordinationUnavailable, Revision, Snapshot
from cluster.settings.shared import SharedSettings, document, parse
from cluster.settings.values import SettingsError
from cluster.settings_store.coordinated import CURRENT, HISTORY, CoordinatedSettings
from cluster.settings_store.protocol import SettingsUnavailable

FILE = parse({"limits": {"associations": 7}})


class Failing(MemoryCoordination):
    """Does not answer when it is asked to write one of some keys, before or after it has done so."""

    def __init__(self) -> None:
        super().__init__()
        self.before: set[str] = set()
        self.after: set[str] = set()
        self.reads_fail = False

    async def put(self, key: str, value: bytes, **more: Any) -> Revision:
        if key in self.before:
            raise CoordinationUnavailable("no member answers")
        revision = await super().put(key, value, **more)
        if key in self.after:
            raise CoordinationUnavailable("no member answers")
        return revision

    async def read(self, prefix: str) -> Snapshot:
        if self.reads_fail:
            raise CoordinationUnavailable("no member answers")
        return await super().read(prefix)


class Slow(MemoryCoordination):
    """Lets others in between a read and what follows it."""

    async def read(self, prefix: str) -> Snapshot:
        found = await super().read(prefix)
        await asyncio.sleep(0)
        return found


def store(coordination: MemoryCoordination, seed: SharedSettings = FILE) -> CoordinatedSettings:
    return CoordinatedSettings(coordination, seed, by="atria@host", why="as the settings file had it")


def limit(associations: int) -> SharedSettings:
    return parse({"limits": {"associations": associations}})


def watching(settings: CoordinatedSettings) -> aclosing[AsyncGenerator[SharedSettings]]:
    return aclosing(settings.watch())


async def test_who_only_looks_makes_no_settings() -> None:
    coordination = MemoryCoordination()
    assert await store(coordination).current() is None
    assert await store(coordination).history() == []
    assert (await coordination.read("")).entries == {}


async def test_the_file_is_asked_only_by_a_cluster_that_never_had_settings() -> None:
    coordination = MemoryCoordination()
    async with watching(store(coordination)) as changes:
        assert await anext(changes) == FILE
    async with watching(store(coordination, limit(99))) as changes:
        assert await anext(changes) == FILE
    (first,) = await store(coordination, limit(99)).history()
    assert (first.number, first.changed_by, first.change) == (1, "atria@host", "as the settings file had it")
    await store(coordination, limit(99)).change(lambda _: SharedSettings(), by="ann", what="nothing")
    async with watching(store(coordination, limit(99))) as changes:
        assert await anext(changes) == SharedSettings()


async def test_many_that_start_at_once_agree_on_one_first_revision() -> None:
    coordination = Slow()
    stores = [store(coordination, limit(number + 1)) for number in range(5)]

    async def first(one: CoordinatedSettings) -> SharedSettings:
        async with watching(one) as changes:
            return await anext(changes)

    seen = await asyncio.gather(*map(first, stores))
    assert all(one == seen[0] for one in seen)
    assert len(await stores[0].history()) == 1


async def test_settings_that_the_store_lost_with_everything_are_put_back_as_they_were_seen_last() -> None:
    coordination = MemoryCoordination()
    here = store(coordination)
    async with asyncio.timeout(10), watching(here) as changes:
        await anext(changes)
        await here.change(lambda _: limit(9), by="ann", what="nine")
        assert await anext(changes) == limit(9)
        for key in (await coordination.read("")).entries:
            await coordination.delete(key)
        assert await anext(changes) == limit(9)


@pytest.mark.parametrize("key", [CURRENT, f"{HISTORY}00000001"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_change_that_is_cut_off_loses_no_revision(key: str, when: str) -> None:
    coordination = Failing()
    here = store(coordination)
    await here.change(lambda _: limit(8), by="ann", what="eight")
    key = key if key == CURRENT else f"{HISTORY}00000002"
    getattr(coordination, when).add(key)
    with pytest.raises(SettingsUnavailable):
        await here.change(lambda _: limit(9), by="ann", what="nine")
    getattr(coordination, when).clear()
    took = key == CURRENT and when == "after"
    assert [one.number for one in await here.history()] == ([3, 2, 1] if took else [2, 1])
    last = await store(coordination).change(lambda _: limit(10), by="bob", what="ten")
    kept = [(one.number, one.document) for one in await here.history()]
    assert kept[0] == (last.number, document(limit(10)))
    assert [number for number, _ in kept] == list(range(len(kept), 0, -1))
    assert kept[-2:] == [(2, document(limit(8))), (1, document(FILE))]


async def test_it_is_said_whether_a_change_may_have_been_made() -> None:
    coordination = Failing()
    here = store(coordination)
    await here.change(lambda _: limit(8), by="ann", what="eight")
    coordination.after.add(CURRENT)
    with pytest.raises(SettingsUnavailable, match="it cannot be told whether the settings were changed"):
        await here.change(lambda _: limit(9), by="ann", what="nine")
    coordination.reads_fail = True
    with pytest.raises(SettingsUnavailable, match="no member answers: nothing was changed"):
        await here.change(lambda _: limit(9), by="ann", what="nine")


async def test_a_cluster_is_given_settings_as_soon_as_the_store_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster.settings_store.coordinated._SEED_PAUSE_S", 0.01)
    coordination = Failing()
    coordination.before.add(CURRENT)
    with capture_logs() as logs:
        async with asyncio.timeout(10), watching(store(coordination)) as changes:
            first = asyncio.ensure_future(anext(changes))
            while not logs:  # noqa: ASYNC110  it is told by nothing else
                await asyncio.sleep(0.01)
            coordination.before.clear()
            assert await first == FILE
    assert [line["event"] for line in logs] == ["settings.unavailable"]


async def test_what_a_later_release_wrote_is_said_and_what_held_before_still_does() -> None:
    coordination = MemoryCoordination()
    here = store(coordination)
    async with asyncio.timeout(10), watching(here) as changes:
        assert await anext(changes) == FILE
        (_, entry), *_ = (await coordination.read(CURRENT)).entries.items()
        later = json.loads(entry.value)
        later["document"]["limits"]["invented_later"] = 1
        with capture_logs() as logs:
            await coordination.put(CURRENT, json.dumps(later).encode())
            following = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0.05)
            assert not following.done()
        assert [(line["event"], line["why"]) for line in logs] == [
            (
                "settings.kept",
                "revision 1 is not of this release: limits.invented_later: there is no such setting",
            )
        ]
        with pytest.raises(SettingsError, match=r"limits\.invented_later"):
            await here.change(lambda now: now, by="ann", what="nothing")
        del later["document"]["limits"]["invented_later"]
        later["document"]["limits"]["associations"] = 11
        await coordination.put(CURRENT, json.dumps(later).encode())
        assert await following == limit(11)


async def test_what_is_no_revision_is_told_by_its_key() -> None:
    coordination = MemoryCoordination()
    await coordination.put(CURRENT, b"{}")
    with pytest.raises(SettingsError, match="settings/current holds no revision"):
        await store(coordination).current()
