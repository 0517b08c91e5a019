from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.coordination.memory import MemoryCoordination
from cluster.coordination.protocol import CoordinationUnavailable, Snapshot
from cluster.nouns import SiteIdentity
from cluster.settings import Settings, load
from deploy import record
from deploy.errors import UserError
from deploy.record import Edition, Records, SiteRecord
from deploy.shared_record import KEY, SharedRecord, followed
from tests.waiting import soon, until


class Host:
    """One host's disk, and its view of what is shared."""

    def __init__(self, folder: Path, coordination: MemoryCoordination) -> None:
        self.settings: Settings = load(
            None, data_folder=folder, etcd={"endpoints": ["http://etcd:2379"], "cold_start_s": 0.05}
        )
        self.coordination = coordination
        self.shared = SharedRecord(self.settings, coordination)

    @property
    def edition(self) -> Edition | None:
        return record.edition(self.settings)

    def holds(self, edition: Edition) -> None:
        self.settings.data_folder.mkdir(exist_ok=True)
        record.file_of(self.settings).write_text(record.encode(edition))


@pytest.fixture
async def coordination() -> MemoryCoordination:
    return MemoryCoordination()


@pytest.fixture
async def hosts(tmp_path: Path, coordination: MemoryCoordination) -> tuple[Host, Host]:
    return Host(tmp_path / "s1", coordination), Host(tmp_path / "s2", coordination)


class Away(MemoryCoordination):
    """An etcd without a quorum."""

    async def read(self, prefix: str) -> Snapshot:
        raise CoordinationUnavailable("no quorum")


class Hanging(MemoryCoordination):
    """An etcd that does not answer."""

    async def read(self, prefix: str) -> Snapshot:
        await asyncio.Event().wait()
        raise AssertionError


def new(ids: str = "123") -> Records:
    return {
        name: SiteRecord(SiteIdentity(name, site_id, generation=1), made=True)
        for name, site_id in zip("abc", ids, strict=True)
    }


def made_by(ids: str) -> Callable[[Records | None], Records]:
    return lambda before: before or new(ids)


def filling(name: str) -> Callable[[Records | None], Records]:
    def noted(records: Records | None) -> Records:
        assert records is not None
        return {**records, name: replace(records[name], filling=True)}

    return noted


async def stored(coordination: MemoryCoordination) -> int:
    return int(json.loads((await coordination.read(KEY)).entries[KEY].value)["edition"])


async def test_a_host_without_a_record_takes_that_of_the_others(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    await one.shared.change(made_by("123"))
    await other.shared.refresh()
    assert other.edition == one.edition
    assert record.of_sites(other.settings) == new("123")


async def test_two_hosts_that_make_a_cluster_at_once_make_the_same(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    made = await asyncio.gather(one.shared.change(made_by("123")), other.shared.change(made_by("456")))
    assert made[0] == made[1]
    assert one.edition == other.edition


async def test_changes_of_two_hosts_at_once_are_both_there(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    await one.shared.change(made_by("123"))
    await asyncio.gather(one.shared.change(filling("a")), other.shared.change(filling("b")))
    await one.shared.refresh()
    records = record.of_sites(one.settings)
    assert [records[name].filling for name in "abc"] == [True, True, False]


async def test_a_change_that_changes_nothing_writes_nothing(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    await hosts[0].shared.change(made_by("123"))
    before = (await coordination.read("")).revision
    await hosts[0].shared.change(made_by("456"))
    assert (await coordination.read("")).revision == before


async def test_a_change_builds_on_what_others_recorded_and_not_on_the_own_disk(
    hosts: tuple[Host, Host],
) -> None:
    one, other = hosts
    await one.shared.change(made_by("123"))
    await other.shared.refresh()
    await other.shared.change(filling("c"))
    await one.shared.change(filling("a"))
    assert one.edition is not None
    assert one.edition.number == 3
    assert one.edition.records["c"].filling


@pytest.mark.parametrize("etcd", [Away, Hanging])
async def test_without_etcd_a_host_goes_by_its_disk(
    tmp_path: Path, hosts: tuple[Host, Host], etcd: type[MemoryCoordination]
) -> None:
    await hosts[0].shared.change(made_by("123"))
    await SharedRecord(hosts[0].settings, etcd()).refresh()
    assert record.of_sites(hosts[0].settings) == new("123")


async def test_without_etcd_nothing_is_changed_and_it_says_so(hosts: tuple[Host, Host]) -> None:
    await hosts[0].shared.change(made_by("123"))
    before = hosts[0].edition
    with pytest.raises(UserError, match=r"cannot be changed, as etcd does not answer .* http://etcd:2379"):
        await SharedRecord(hosts[0].settings, Away()).change(filling("a"))
    assert hosts[0].edition == before


async def test_an_etcd_that_was_lost_has_the_last_edition_again_whoever_comes_first(
    tmp_path: Path, hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    late, last = hosts
    await last.shared.change(made_by("123"))
    await late.shared.refresh()
    await last.shared.change(filling("c"))
    await coordination.delete(KEY)
    await late.shared.refresh()
    assert await stored(coordination) == 1
    await last.shared.refresh()
    assert await stored(coordination) == 2
    await late.shared.refresh()
    assert late.edition == last.edition


async def test_a_change_after_etcd_was_brought_back_from_a_backup_builds_on_the_last_edition(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    one = hosts[0]
    await one.shared.change(made_by("123"))
    backup = (await coordination.read(KEY)).entries[KEY].value
    await one.shared.change(filling("a"))
    await coordination.put(KEY, backup)
    records = await one.shared.change(filling("b"))
    assert [records[name].filling for name in "abc"] == [True, True, False]
    assert await stored(coordination) == 3


async def test_the_record_of_another_cluster_is_refused_and_kept(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    one, other = hosts
    await one.shared.change(made_by("123"))
    foreign = Edition(9, "another", new("789"))
    other.holds(foreign)
    for attempt in (other.shared.refresh(), other.shared.change(filling("a"))):
        with pytest.raises(UserError, match=r"s2/cluster.json is of another cluster than the record in etcd"):
            await attempt
    assert other.edition == foreign
    assert await stored(coordination) == 1


async def test_a_cluster_of_one_host_that_gets_others_shares_the_record_that_it_has(
    hosts: tuple[Host, Host],
) -> None:
    one, other = hosts
    one.holds(Edition(0, None, new("123")))
    await one.shared.change(made_by("456"))
    await one.shared.change(filling("b"))
    await other.shared.refresh()
    assert other.edition is not None
    assert [one.identity.site_id for one in other.edition.records.values()] == ["1", "2", "3"]
    assert other.edition.cluster is not None


async def test_a_record_that_is_damaged_on_disk_is_put_back_from_what_is_shared(
    hosts: tuple[Host, Host],
) -> None:
    one = hosts[0]
    await one.shared.change(made_by("123"))
    record.file_of(one.settings).write_text("{")
    await one.shared.refresh()
    assert record.of_sites(one.settings) == new("123")


async def test_an_older_edition_does_not_replace_a_later_one_on_disk(hosts: tuple[Host, Host]) -> None:
    one = hosts[0]
    await one.shared.change(made_by("123"))
    first = one.edition
    assert first is not None
    await one.shared.change(filling("a"))
    record.keep(one.settings, first)
    assert one.edition is not None
    assert one.edition.number == 2


async def test_a_record_of_other_sites_is_refused(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    await coordination.put(KEY, record.encode(Edition(1, "x", {"z": new()["a"]})).encode())
    with pytest.raises(UserError, match=r"the cluster in etcd \(record\) has the sites a, the settings name"):
        await hosts[0].shared.refresh()


async def test_a_host_follows_what_others_record(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    one, other = hosts
    async with followed(other.settings, coordination):
        await one.shared.change(made_by("123"))
        await until(lambda: other.edition == one.edition, seen=lambda: (one.edition, other.edition))
        await one.shared.change(filling("c"))
        await until(lambda: other.edition == one.edition, seen=lambda: (one.edition, other.edition))


async def test_a_host_that_follows_gives_back_what_etcd_has_lost(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    one, other = hosts
    await one.shared.change(made_by("123"))
    async with followed(one.settings, coordination):
        await coordination.delete(KEY)
        async with soon("etcd has it again"):
            while KEY not in (await coordination.read(KEY)).entries:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    await other.shared.refresh()
    assert other.edition == one.edition


async def test_what_is_shared_and_damaged_does_not_end_who_follows(
    hosts: tuple[Host, Host], coordination: MemoryCoordination
) -> None:
    one, other = hosts
    await one.shared.change(made_by("123"))
    async with followed(other.settings, coordination):
        sound = (await coordination.read(KEY)).entries[KEY].value
        await coordination.put(KEY, b"{")
        await coordination.put(KEY, sound)
        await one.shared.change(filling("c"))
        await until(lambda: other.edition == one.edition, seen=lambda: (one.edition, other.edition))
