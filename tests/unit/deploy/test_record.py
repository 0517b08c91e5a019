from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.settings import Settings, load
from deploy import making, record
from deploy.errors import UserError
from deploy.record import Records
from deploy.roster import RecordRoster


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load(None, data_folder=tmp_path)
    making.prepare(settings)
    return settings


def filling(settings: Settings, name: str = "b") -> None:
    def noted(records: Records | None) -> Records:
        assert records is not None
        return {**records, name: replace(records[name], filling=True)}

    record.change(settings, noted)


def test_a_record_is_read_as_it_was_written(settings: Settings) -> None:
    filling(settings)
    records = record.of_sites(settings)
    assert [(name, one.identity.name, one.made, one.filling) for name, one in records.items()] == [
        ("a", "a", True, False),
        ("b", "b", True, True),
        ("c", "c", True, False),
    ]


def test_a_record_of_before_there_were_filling_sites_is_understood(settings: Settings) -> None:
    file = record.file_of(settings)
    before = record.of_sites(settings)
    file.write_text(file.read_text().replace(',\n      "filling": false', ""))
    assert "filling" not in file.read_text()
    assert record.of_sites(settings) == before


def test_changes_of_several_processes_are_all_there(settings: Settings) -> None:
    def raised(records: Records | None) -> Records:
        assert records is not None
        identity = records["a"].identity
        return {
            **records,
            "a": replace(records["a"], identity=replace(identity, generation=identity.generation + 1)),
        }

    threads = [threading.Thread(target=record.change, args=(settings, raised)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert record.of_sites(settings)["a"].identity.generation == 21


def test_a_change_that_changes_nothing_writes_nothing(settings: Settings) -> None:
    before = record.file_of(settings).stat().st_ino
    record.change(settings, lambda records: records or {})
    assert record.file_of(settings).stat().st_ino == before


def test_a_site_that_is_being_replaced_does_not_keep_the_cluster_from_starting(settings: Settings) -> None:
    def unmade(records: Records | None, *, filling: bool) -> Records:
        assert records is not None
        return {**records, "c": replace(records["c"], made=False, filling=filling)}

    record.change(settings, lambda records: unmade(records, filling=True))
    assert record.is_whole(settings)
    record.change(settings, lambda records: unmade(records, filling=False))
    assert not record.is_whole(settings)
    with pytest.raises(UserError, match=r"there is no cluster in .* yet: site c was not made to the end"):
        record.of_sites(settings)


async def test_a_roster_sees_what_another_process_recorded(settings: Settings) -> None:
    roster = RecordRoster(settings)
    assert not roster.memberships()["b"].filling
    filling(settings)
    assert roster.memberships()["b"].filling


async def test_a_roster_reads_the_record_only_when_it_was_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = RecordRoster(settings)
    monkeypatch.setattr(record, "read", lambda _: pytest.fail("read again"))
    assert list(roster.memberships()) == ["a", "b", "c"]


@pytest.mark.parametrize("harm", [Path.unlink, Path.touch, lambda file: file.write_text("{")])
async def test_a_roster_goes_on_with_what_it_knew_when_the_record_is_gone_or_damaged(
    settings: Settings, harm: object
) -> None:
    roster = RecordRoster(settings)
    before = roster.memberships()
    assert callable(harm)
    harm(record.file_of(settings))
    assert roster.memberships() == before


async def test_a_site_that_has_everything_is_filling_no_more(settings: Settings) -> None:
    filling(settings)
    roster = RecordRoster(settings)
    await roster.filled(roster.memberships()["b"].identity)
    assert not roster.memberships()["b"].filling


async def test_what_filled_a_former_generation_says_nothing_of_the_next(settings: Settings) -> None:
    roster = RecordRoster(settings)
    former = roster.memberships()["b"].identity
    making.replace_site(settings, settings.sites[1])
    await roster.filled(former)
    assert roster.memberships()["b"].filling


async def test_a_roster_opens_a_site_as_it_is_recorded(settings: Settings) -> None:
    making.replace_site(settings, settings.sites[1])
    roster = RecordRoster(settings)
    site = roster.open(roster.memberships()["b"])
    assert site.membership.filling
    assert (await site.objects.identity()).generation == 2
    assert await site.catalogue.identity() == site.membership.identity
    await site.objects.close()
    await site.catalogue.close()
