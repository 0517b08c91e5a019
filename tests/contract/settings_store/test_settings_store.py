from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from cluster.coordination.etcd import EtcdCoordination
from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import Coordination
from cluster.settings import Etcd, SettingsError
from cluster.settings.shared import SharedSettings, document, parse
from cluster.settings_store import coordinated
from cluster.settings_store.coordinated import CoordinatedSettings
from cluster.settings_store.protocol import Change, SettingsStore
from deploy import settings_history
from deploy.settings_file import FileSettings
from tests.etcd import EtcdCluster
from tests.waiting import soon

FIRST = {"limits": {"associations": 7}, "peers": [{"ae_title": "CT"}]}
TEXT = '# ours\n[limits]\nassociations = 7\n[[peers]]\nae_title = "CT"\n'

Views = tuple[SettingsStore, SettingsStore]
"""Two processes' views of one cluster's settings, which are `FIRST`."""


@pytest.fixture(params=["file", "memory", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Etcd | None:
    """A file, keys in etcd, or None for in memory."""
    if request.param == "memory":
        return None
    if request.param == "etcd":
        return cast("EtcdCluster", request.getfixturevalue("etcd_for_all")).settings()
    file = tmp_path / "atria.toml"
    file.write_text(TEXT)
    (tmp_path / "data").mkdir()
    return file


@pytest.fixture
async def views(place: Path | Etcd | None) -> AsyncIterator[Views]:
    if isinstance(place, Path):
        yield FileSettings(place, place.parent / "data"), FileSettings(place, place.parent / "data")
    elif place is None:
        coordination = MemoryCoordination()
        yield on(coordination), on(coordination)
    else:
        here, there = EtcdCoordination(place), EtcdCoordination(place)
        try:
            yield on(here), on(there)
        finally:
            await here.close()
            await there.close()


def on(coordination: Coordination) -> SettingsStore:
    return CoordinatedSettings(coordination, parse(FIRST), by="atria@host", why="at first")


def limit(associations: int) -> Change:
    return lambda now: parse(
        {
            **document(now),
            "limits": {**now.limits.model_dump(exclude_unset=True), "associations": associations},
        }
    )


def one_more(now: SharedSettings) -> SharedSettings:
    return limit(now.limits.associations + 1)(now)


def also(title: str) -> Change:
    return lambda now: parse(
        {**document(now), "peers": [{"ae_title": one.ae_title} for one in now.peers] + [{"ae_title": title}]}
    )


async def test_a_change_holds_for_whoever_asks_then(views: Views) -> None:
    here, there = views
    made = await here.change(limit(9), by="ann@host", what="nine")
    found = await there.current()
    assert found == made
    assert (found.changed_by, found.change) == ("ann@host", "nine")
    assert found.document == {**FIRST, "limits": {"associations": 9}}


async def test_the_first_change_goes_by_the_settings_that_were_there_at_first(views: Views) -> None:
    await views[0].change(also("MR"), by="ann", what="MR")
    newest, first = await views[1].history()
    assert first.document == FIRST
    assert newest.document == {**FIRST, "peers": [{"ae_title": "CT"}, {"ae_title": "MR"}]}
    assert (first.number, newest.number) == (1, 2)


async def test_changes_at_the_same_time_do_not_overwrite_each_other(views: Views) -> None:
    titles = [f"AE{number}" for number in range(10)]
    async with asyncio.TaskGroup() as tasks:
        for number, title in enumerate(titles):
            tasks.create_task(views[number % 2].change(also(title), by="both", what=title))
    newest = (await views[0].history())[0]
    assert {peer.ae_title for peer in parse(newest.document).peers} == {"CT", *titles}
    assert newest.number == 11


async def test_what_is_not_valid_is_refused_and_changes_nothing(views: Views) -> None:
    before = await views[0].change(limit(9), by="ann", what="nine")
    with pytest.raises(SettingsError, match=r"limits\.associations: expected greater than 0, found -1"):
        await views[0].change(limit(-1), by="ann", what="less than nothing")
    with pytest.raises(SettingsError, match="peers: each needs an ae_title of its own, found CT, CT"):
        await views[0].change(also("CT"), by="ann", what="CT again")
    assert await views[1].current() == before


async def test_what_changes_nothing_makes_no_revision(views: Views) -> None:
    made = await views[0].change(limit(9), by="ann", what="nine")
    assert await views[1].change(limit(9), by="bob", what="nine again") == made
    assert len(await views[0].history()) == 2


async def test_history_tells_who_did_what_and_when(views: Views) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=1)
    await views[0].change(limit(8), by="ann@a", what="eight")
    await views[1].change(limit(9), by="bob@b", what="nine")
    newest, former, first = await views[0].history()
    assert [(one.changed_by, one.change) for one in (newest, former)] == [
        ("bob@b", "nine"),
        ("ann@a", "eight"),
    ]
    assert begun < former.changed_at <= newest.changed_at <= datetime.now(UTC)
    assert first.document == FIRST


async def test_one_can_go_back_to_any_revision_that_is_kept(views: Views) -> None:
    await views[0].change(limit(8), by="ann", what="eight")
    await views[0].change(also("MR"), by="ann", what="MR")
    *_, first = await views[1].history()
    await views[1].change(lambda _: parse(first.document), by="ann", what="back to 1")
    now = await views[0].current()
    assert now is not None
    assert (now.document, now.number) == (FIRST, 4)


async def test_only_so_many_revisions_are_kept(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (coordinated, settings_history):
        monkeypatch.setattr(module, "REVISIONS_KEPT", 3)
    for _ in range(6):
        await views[0].change(one_more, by="ann", what="one more")
    assert [one.number for one in await views[1].history()] == [7, 6, 5]
    assert [parse(one.document).limits.associations for one in await views[1].history()] == [13, 12, 11]


async def test_who_watches_is_told_at_once_and_after_each_change(views: Views) -> None:
    here, there = views
    async with soon("a change is seen"), aclosing(there.watch()) as changes:
        assert document(await anext(changes)) == FIRST
        for associations in (8, 9):
            await here.change(limit(associations), by="ann", what="more")
            assert (await anext(changes)).limits.associations == associations


async def test_everything_can_be_taken_back_to_its_default(views: Views) -> None:
    await views[0].change(lambda _: SharedSettings(), by="ann", what="nothing")
    now = await views[1].current()
    assert now is not None
    assert now.document == {}
