from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cluster.settings import SettingsError
from cluster.settings.shared import SharedSettings, document, parse
from cluster.settings_store.protocol import SettingsUnavailable
from deploy import settings_file
from deploy.settings_changes import Ae, with_ae, with_value
from deploy.settings_file import FileSettings, file_used

TEXT = "# ours\ndata_folder = '/srv'\n[limits]\nassociations = 7  # few\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "atria.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_file, "_POLL_INTERVAL_S", 0.02)


def store(file: Path) -> FileSettings:
    return FileSettings(file, file.parent / "data")


def nine(now: SharedSettings) -> SharedSettings:
    return with_value(now, "limits.associations", "9")


def watching(file: Path) -> aclosing[AsyncGenerator[SharedSettings]]:
    return aclosing(store(file).watch())


async def kept(changes: AsyncGenerator[SharedSettings], reason: str) -> asyncio.Future[SharedSettings]:
    """Wait until it is said why what held before is kept; return what comes next."""
    with capture_logs() as logs:
        following = asyncio.ensure_future(anext(changes))
        while not logs and not following.done():  # noqa: ASYNC110  it is told by nothing else
            await asyncio.sleep(0.01)
    assert not following.done()
    assert [line["event"] for line in logs] == ["settings.kept"]
    assert reason in logs[0]["why"]
    return following


async def test_a_change_leaves_the_rest_of_the_file_as_it_was(file: Path) -> None:
    await store(file).change(nine, by="ann", what="nine")
    assert file.read_text() == TEXT.replace("associations = 7", "associations = 9")


async def test_the_file_of_a_data_folder_is_made_by_the_first_change(tmp_path: Path) -> None:
    file = tmp_path / "new" / "atria.toml"
    made = FileSettings(file, tmp_path / "new")
    assert [one.document for one in await made.history()] == [{}]
    assert not file.parent.exists()
    await made.change(lambda now: with_ae(now, Ae("CT1")), by="ann", what="CT1")
    assert file.read_text() == '[[peers]]\nae_title = "CT1"\n'
    assert [one.number for one in await made.history()] == [2, 1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_who_reads_the_file_may_still_do_so_after_a_change(file: Path) -> None:
    file.chmod(0o640)
    os.chown(file, 4711, 4712)
    await store(file).change(nine, by="ann", what="nine")
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 4711, 4712)


async def test_a_link_to_the_file_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    await FileSettings(link, tmp_path / "data").change(nine, by="ann", what="nine")
    assert link.is_symlink()
    assert "associations = 9" in file.read_text()


async def test_a_hand_edit_is_a_revision_of_its_own(file: Path) -> None:
    await store(file).change(nine, by="ann", what="nine")
    file.write_text(TEXT.replace("7", "8"))
    changed = await store(file).change(lambda now: with_ae(now, Ae("CT1")), by="bob", what="CT1")
    by = [
        (one.number, one.changed_by, parse(one.document).limits.associations)
        for one in await store(file).history()
    ]
    assert by == [(4, "bob", 8), (3, "", 8), (2, "ann", 9), (1, "", 7)]
    assert changed.number == 4


async def test_a_hand_edit_is_seen_by_who_looks_though_he_may_not_write(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(file).change(nine, by="ann", what="nine")
    file.write_text(TEXT)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(settings_file, "held", refused)
    assert [one.number for one in await store(file).history()] == [3, 2, 1]
    with pytest.raises(SettingsUnavailable, match="Permission denied: nothing was changed"):
        await store(file).change(nine, by="bob", what="nine")
    assert file.read_text() == TEXT


async def test_a_file_that_is_not_valid_is_not_changed(file: Path) -> None:
    for text, said in (
        ("[limits]\nassociations = 0\n", r"atria\.toml: limits\.associations: expected greater than 0"),
        ("[http]\nport = -1\n", r"atria\.toml: http\.port"),
        ("[limits\n", r"atria\.toml: is not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=said):
            await store(file).change(nine, by="ann", what="nine")
        assert file.read_text() == text


async def test_what_cannot_be_edited_without_loss_is_left_to_a_person(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_file, "edited", lambda *_: "[limits]\nassociations = 9\n")
    with pytest.raises(SettingsError, match="is written in a way that only a person can change"):
        await store(file).change(nine, by="ann", what="nine")
    assert file.read_text() == TEXT


async def test_a_file_that_was_broken_by_hand_is_said_once_and_taken_when_it_is_mended(
    file: Path, quick: None
) -> None:
    async with asyncio.timeout(10), watching(file) as changes:
        assert (await anext(changes)).limits.associations == 7
        file.write_text(TEXT.replace("7", "0"))
        following = await kept(changes, "limits.associations: expected greater than 0")
        file.write_text(TEXT.replace("7", "12"))
        assert (await following).limits.associations == 12


async def test_a_file_that_has_gone_takes_nothing_with_it(file: Path, quick: None) -> None:
    async with asyncio.timeout(10), watching(file) as changes:
        await anext(changes)
        file.unlink()
        following = await kept(changes, "is not there any more")
        file.write_text(TEXT.replace("7", "12"))
        assert (await following).limits.associations == 12


async def test_a_file_that_is_being_written_is_not_read_before_it_rests(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_file, "_POLL_INTERVAL_S", 0.2)
    async with asyncio.timeout(10), watching(file) as changes:
        await anext(changes)
        following = asyncio.ensure_future(anext(changes))
        for lines in range(12):
            file.write_text("# The limits will come below.\n" * lines)
            await asyncio.sleep(0.05)
        file.write_text(TEXT.replace("7", "12"))
        assert (await following).limits.associations == 12


async def test_a_file_that_changes_in_what_is_not_shared_is_no_news(file: Path, quick: None) -> None:
    async with asyncio.timeout(10), watching(file) as changes:
        await anext(changes)
        file.write_text(TEXT.replace("/srv", "/srv2"))
        following = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.2)
        assert not following.done()
        file.write_text(TEXT.replace("7", "12"))
        await following


async def test_a_folder_in_which_nobody_shares_settings_is_left_alone(tmp_path: Path, quick: None) -> None:
    async with watching(tmp_path / "atria.toml") as changes:
        assert document(await anext(changes)) == {}
    assert not list(tmp_path.iterdir())


async def test_a_data_folder_tells_which_file_its_processes_go_by(file: Path) -> None:
    data = file.parent / "data"
    assert file_used(data) is None
    async with watching(file) as changes:
        await anext(changes)
    assert file_used(data) == file
    async with aclosing(FileSettings(data / "atria.toml", data).watch()) as changes:
        await anext(changes)
    assert file_used(data) is None


async def test_two_clusters_that_have_one_file_do_not_write_it_at_once(file: Path) -> None:
    stores = [FileSettings(file, file.parent / f"data{number}") for number in range(5)]
    async with asyncio.TaskGroup() as tasks:
        for number, one in enumerate(stores):
            tasks.create_task(one.change(partial(with_ae, ae=Ae(f"AE{number}")), by="ann", what="one"))
    assert sum(line.startswith("ae_title") for line in file.read_text().splitlines()) == 5
