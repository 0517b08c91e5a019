"""A catalogue that is made from its site's objects is the one that was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE
from cluster.nouns import FactKind, Instance
from deploy import making, record
from storage_node.catalogue.matching import by_uids
from storage_node.grid import copies, keys
from storage_node.grid.find import Finding
from storage_node.upkeep import rebuild as rebuilding
from storage_node.upkeep.repair import Repair
from tests.integration.rebuild.world import World, pixel_data, said_by
from tests.integration.services.instances import element

CUT = "1.2." + "x" * 200
"""A UID so odd and long that its name in a key is cut."""


def description(text: str) -> bytes:
    return element(0x0020000F if not text else 0x00204000, "LT", text.encode())


async def store_all_kinds(w: World) -> None:
    """Store whatever a key, a header or an object may be like."""
    await w.store("1.2.3.1", more=pixel_data())
    await w.store("1.2.3.2", more=description("no pixel data"))
    await w.store("1.2.3.3", more=element(0x00204000, "LT", b"x" * 3000) + pixel_data(300_000))
    await w.store("1.2.3.4", more=pixel_data(), transfer_syntax=DEFLATED_EXPLICIT_VR_LE)
    await w.store("1.2.3.5", more=pixel_data(9_000_000), streamed=True)
    await w.store("odd/uid.1", study="1.2 odd", series="..", more=pixel_data())
    await w.store("1.5.1", study=CUT, series="1.5", more=pixel_data())
    await w.store("1.5.2", study=CUT, series="1.5", more=pixel_data(100_000) + b"\0\0\0")
    for text in ("first", "second", "third"):
        await w.store("1.6.1", study="1.6", series="1.6.0", more=description(text))
    for sop in ("1.7.1", "1.7.2"):
        await w.store(sop, study="1.7", series="1.7.0", more=pixel_data())
    await w.grid.decide(
        Instance("1.7", "1.7.0", "1.7.1"), FactKind.DELETED, by="somebody", reason="wrong patient"
    )


def folder_of(w: World, name: str) -> Path:
    return next(site.objects_folder for site in w.settings.sites if site.name == name)


async def test_a_catalogue_that_is_rebuilt_says_what_the_lost_one_said(either: World) -> None:
    w = either
    await store_all_kinds(w)
    before = await said_by(w.catalogue("b"))
    await w.lose_catalogue("b")
    assert (await said_by(w.catalogue("b"))).entries == ()
    report = await w.rebuild()
    assert (report.rebuilt, report.left, report.unreadable) == (("b",), (), 0)
    assert (report.added, report.facts) == (len(before.entries), len(before.facts))
    assert await said_by(w.catalogue("b")) == before
    assert not w.grid.health()["b"].votes
    await w.fill("b")
    assert await said_by(w.catalogue("b")) == before


async def test_versions_that_no_other_catalogue_knows_are_ordered_by_when_they_were_received(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_all_kinds(w)
    later = await w.store("1.8.1", study="1.8", series="1.8.0", more=description("later"), minute=90)
    sooner = await w.store("1.8.1", study="1.8", series="1.8.0", more=description("sooner"), minute=80)
    before = await said_by(w.catalogue("a"))
    for name in "abc":
        (site,) = (site for site in w.settings.sites if site.name == name)
        await asyncio.to_thread(making.begin_rebuild, w.settings, site)
    for name in "abc":
        await w.until(name, votes=False)
    only_a = [w.grid.sites["a"]]
    monkeypatch.setattr(w.grid.sites, "up", lambda: tuple(only_a))
    assert (await w.new_rebuild().run_once()).rebuilt == ("a",)
    rows = await w.catalogue("a").rows_of(Instance("1.8", "1.8.0", "1.8.1"))
    assert [(row.version.digest, row.order) for row in rows] == [
        (later.version.digest, 2),
        (sooner.version.digest, 1),
    ]
    after = await said_by(w.catalogue("a"))
    others = [entry for entry in before.entries if entry.instance.study_instance_uid != "1.8"]
    assert [e for e in after.entries if e.instance.study_instance_uid != "1.8"] == others
    assert after.facts == before.facts


async def test_where_all_lost_their_catalogues_none_decides_the_order_by_what_another_lacks(
    w: World,
) -> None:
    first = await w.store("1", more=description("first"))
    second = await w.store("1", more=description("second"))
    (folder_of(w, "b") / first.version.key).unlink()
    for name in "abc":
        await w.lose_catalogue(name)
    for name in "bac":
        assert await rebuilding_of(w, name) == (name,)
    for name in "abc":
        await w.fill(name)
    for name in "abc":
        rows = await w.catalogue(name).rows_of(first.version.instance)
        assert [(row.version.digest, row.order) for row in rows] == [
            (second.version.digest, 2),
            (first.version.digest, 1),
        ]


async def test_no_site_is_filled_from_a_catalogue_that_is_still_to_be_rebuilt(w: World) -> None:
    """Else two could agree that what only the third one's objects have was never stored."""
    await store_all_kinds(w)
    await w.lose_catalogue("a")
    await w.lose_catalogue("b")
    a = next(site for site in w.settings.sites if site.name == "a")
    await asyncio.to_thread(making.go_on_filling, w.settings, a, rebuilding=True)
    report = await rebuilding_of(w, "a")
    assert report == ("a",)
    from deploy.roster import RecordRoster
    from storage_node.upkeep.fill import Fill

    filled = await Fill(w.grid, w.settings.upkeep, RecordRoster(w.settings)).run_once()
    assert (filled.filled, filled.left, filled.not_read) == ((), ("a",), ("b",))
    await w.rebuild()
    await w.fill("a")
    await w.fill("b")


async def rebuilding_of(w: World, name: str) -> tuple[str, ...]:
    """Rebuild one of several sites that are to be rebuilt."""
    report = await w.new_rebuild().run_once(names=[name])
    async with asyncio.timeout(20):
        await w.grid.sites.wait_until(lambda _: not w.grid.sites[name].membership.rebuilding)
    return report.rebuilt


async def test_a_rebuild_that_was_killed_goes_on_where_it_was(
    either: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = either
    await store_all_kinds(w)
    before = await said_by(w.catalogue("b"))
    await w.lose_catalogue("b")
    read = copies.read
    begun: list[str] = []
    half_way = asyncio.Event()

    async def reads_some(*arguments: object, **options: object) -> copies.Copy:
        begun.append("")
        if len(begun) > len(before.entries) // 2:
            half_way.set()
            await asyncio.Event().wait()
        return await read(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(copies, "read", reads_some)
    monkeypatch.setattr(rebuilding, "STUDIES_AT_ONCE", 1)
    monkeypatch.setattr(rebuilding, "INSTANCES_AT_ONCE", 1)
    killed = asyncio.create_task(w.new_rebuild().run_once())
    await half_way.wait()
    killed.cancel()
    await asyncio.wait({killed})
    assert record.of_sites(w.settings)["b"].rebuilding
    monkeypatch.undo()
    there = len((await said_by(w.catalogue("b"))).entries)
    assert there
    report = await w.rebuild()
    assert report.added == len(before.entries) - there
    assert await said_by(w.catalogue("b")) == before


async def test_what_is_there_is_not_read_again(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await store_all_kinds(w)
    await w.lose_catalogue("b")
    await w.rebuild()
    b = next(site for site in w.settings.sites if site.name == "b")
    await asyncio.to_thread(making.go_on_filling, w.settings, b, rebuilding=True)
    async with asyncio.timeout(20):
        await w.grid.sites.wait_until(lambda _: w.grid.sites["b"].membership.rebuilding)
    read: list[str] = []
    get = type(w.grid.sites["b"].objects).get

    async def noted(self: object, key: str, *arguments: object) -> bytes:
        read.append(key)
        return await get(self, key, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(w.grid.sites["b"].objects), "get", noted)
    report = await w.rebuild()
    assert (report.rebuilt, report.added) == (("b",), 0)
    cut = keys.study_folder(CUT)
    assert not [key for key in read if not key.startswith((keys.FACTS, f"{cut}/"))]


async def test_new_instances_are_stored_while_a_catalogue_is_rebuilt(either: World) -> None:
    w = either
    for number in range(60):
        await w.store(f"1.2.3.{number}", study=f"1.2.{number % 7}", more=pixel_data())
    await w.lose_catalogue("b")

    async def go_on() -> None:
        for number in range(60, 100):
            stored = await w.store(f"1.2.3.{number}", study=f"1.2.{number % 7}", more=pixel_data())
            assert len(stored.copies) == 3
            again = f"version {number}"
            await w.store(f"1.2.3.{number - 60}", study=f"1.2.{number % 7}", more=description(again))

    storing = asyncio.create_task(go_on())
    await w.rebuild()
    await storing
    await Repair(w.grid, w.settings.upkeep).run_once()
    await w.fill("b")
    assert await said_by(w.catalogue("b")) == await said_by(w.catalogue("a"))
    assert len((await said_by(w.catalogue("b"))).entries) == 140


async def test_a_worker_goes_on_with_the_new_catalogue_and_asks_it_last(either: World) -> None:
    w = either
    await store_all_kinds(w)
    await w.lose_catalogue("b")
    finding = w.grid.find(by_uids(study=["1.2"]), 100)
    found = [match.version.instance.sop_instance_uid async for match in finding]
    assert (len(found), finding.complete) == (5, True)
    assert isinstance(finding, Finding)
    assert sorted(finding.answered) == ["a", "c"]
    stored = await w.store("1.9.1", study="1.9", more=pixel_data())
    assert stored.copies == ("a", "b", "c")
    assert [entry.digest async for entry in w.catalogue("b").walk("1.9")] == [stored.version.digest]


async def test_provenance_is_that_of_the_copy_itself(w: World) -> None:
    stored = await w.store("1.2.3.1", more=pixel_data(), minute=5)
    metadata = folder_of(w, "b") / f"{stored.version.key}.meta"
    metadata.write_text(metadata.read_text().replace("CT1", "CT9"))
    await w.lose_catalogue("b")
    await w.rebuild()
    (row,) = await w.catalogue("b").rows_of(stored.version.instance)
    assert row.provenance.calling_ae == "CT9"
