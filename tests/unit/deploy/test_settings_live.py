from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cluster.settings import Settings, SettingsError, loads
from cluster.settings.live import LiveSettings
from cluster.settings.shared import SharedSettings, parse
from deploy import settings_live
from deploy.settings_live import KeptSettings, following
from tests.waiting import soon


class Scripted:
    """A store of which a test says when it yields what."""

    def __init__(self) -> None:
        self.next: asyncio.Queue[SharedSettings | Exception] = asyncio.Queue()

    async def watch(self) -> AsyncGenerator[SharedSettings]:
        while True:
            one = await self.next.get()
            if isinstance(one, Exception):
                raise one
            yield one

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError


def limit(associations: int) -> SharedSettings:
    return parse({"limits": {"associations": associations}})


async def until(live: LiveSettings, associations: int) -> None:
    async with soon(f"{associations} associations may be", seen=lambda: live.now.limits):
        while live.now.limits.associations != associations:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_the_store_is_followed_for_as_long_as_the_context_lasts(tmp_path: Path) -> None:
    store, kept = Scripted(), KeptSettings(tmp_path)
    store.next.put_nowait(limit(8))
    async with following(Settings(), store, kept, cold_start_s=5) as live:
        assert live.now.limits.associations == 8
        store.next.put_nowait(limit(9))
        await until(live, 9)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "settings"]


async def test_what_was_seen_last_is_kept_on_disk(tmp_path: Path) -> None:
    store = Scripted()
    store.next.put_nowait(limit(8))
    async with following(Settings(), store, KeptSettings(tmp_path), cold_start_s=5) as live:
        store.next.put_nowait(limit(9))
        await until(live, 9)
        store.next.put_nowait(limit(10))
        await until(live, 10)
    assert KeptSettings(tmp_path).read() in (limit(9), limit(10))


async def test_a_process_starts_from_what_its_host_saw_last_when_nobody_tells_it(tmp_path: Path) -> None:
    KeptSettings(tmp_path).write(limit(8))
    store = Scripted()
    with capture_logs() as logs:
        async with following(Settings(), store, KeptSettings(tmp_path), cold_start_s=0.01) as live:
            assert live.now.limits.associations == 8
            store.next.put_nowait(limit(9))
            await until(live, 9)
    assert ("settings.cold_start", "what this host saw last") in [
        (one["event"], one.get("holds")) for one in logs
    ]


async def test_a_host_that_saw_nothing_starts_from_its_file(tmp_path: Path) -> None:
    own = loads("[limits]\nassociations = 5")
    async with following(own, Scripted(), KeptSettings(tmp_path), cold_start_s=0.01) as live:
        assert live.now is own


@pytest.mark.parametrize("text", ["", "[", '{"limits": {"invented_later": 1}}', "7"])
async def test_what_is_kept_and_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert KeptSettings(tmp_path).read() is None
    KeptSettings(tmp_path).write(limit(8))
    assert KeptSettings(tmp_path).read() == limit(8)


async def test_what_is_kept_already_is_not_written_again(tmp_path: Path) -> None:
    KeptSettings(tmp_path).write(limit(8))
    before = (tmp_path / "settings.json").stat()
    KeptSettings(tmp_path).write(limit(8))
    assert (tmp_path / "settings.json").stat().st_ino == before.st_ino
    assert json.loads((tmp_path / "settings.json").read_text()) == {"limits": {"associations": 8}}


async def test_who_cannot_keep_them_goes_on(tmp_path: Path) -> None:
    with capture_logs() as logs:
        KeptSettings(tmp_path / "not there").write(limit(8))
    assert [line["event"] for line in logs] == ["settings.not_kept"]


async def test_a_file_that_says_something_else_in_vain_is_said(tmp_path: Path) -> None:
    own = loads("[limits]\nassociations = 5\nfind_matches = 3")
    store = Scripted()
    store.next.put_nowait(limit(5))
    with capture_logs() as logs:
        async with following(own, store, None, cold_start_s=5) as live:
            assert live.now.limits.find_matches == Settings().limits.find_matches
    (said,) = [line for line in logs if line["event"] == "settings.file_differs"]
    assert said["keys"] == ["limits.find_matches"]


async def test_what_does_not_go_with_a_hosts_own_settings_is_said_and_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> Settings:
        raise SettingsError("limits: too much for this host")

    store = Scripted()
    monkeypatch.setattr("cluster.settings.shared.apply", refuse)
    store.next.put_nowait(limit(8))
    with capture_logs() as logs:
        async with following(Settings(), store, None, cold_start_s=5) as live:
            assert live.now.limits.associations == 200
    assert "settings.kept" in [line["event"] for line in logs]


async def test_a_fault_that_nobody_foresaw_does_not_end_the_following(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings_live, "_PAUSE_S", 0.01)
    store = Scripted()
    store.next.put_nowait(RuntimeError("not foreseen"))
    store.next.put_nowait(limit(8))
    with capture_logs() as logs:
        async with following(Settings(), store, None, cold_start_s=5) as live:
            assert live.now.limits.associations == 8
    assert logs[0]["event"] == "settings.not_followed"


async def test_what_ends_the_context_is_told_as_it_is() -> None:
    store = Scripted()
    store.next.put_nowait(limit(8))
    with pytest.raises(OSError, match="address in use"):
        async with following(Settings(), store, None, cold_start_s=5):
            raise OSError("address in use")
