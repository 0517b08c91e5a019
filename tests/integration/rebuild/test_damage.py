"""What cannot be read of a site does not keep its catalogue from being made of the rest."""

from __future__ import annotations

import json

import pytest

from cluster.nouns import Provenance
from deploy import record
from storage_node.catalogue.protocol import Row
from storage_node.grid import keys
from storage_node.site.protocol import ObjectFault
from storage_node.upkeep import rebuild as rebuilding
from storage_node.upkeep.repair import Repair
from tests.integration.rebuild.test_rebuild import folder_of, rebuilding_of, store_all_kinds
from tests.integration.rebuild.world import BEGIN, World, pixel_data, said_by


@pytest.mark.parametrize(
    "how", ["cut short", "long, cut short", "other bytes", "no DICOM", "manifest", "stream"]
)
async def test_a_copy_that_cannot_be_read_is_told_and_owed_and_then_repaired(w: World, how: str) -> None:
    await store_all_kinds(w)
    before = await said_by(w.catalogue("b"))
    is_streamed = how in ("manifest", "stream")
    sop = "1.2.3.3" if how.startswith("long") else "1.2.3.1"
    entry = next(
        e
        for e in before.entries
        if e.is_streamed == is_streamed and (is_streamed or e.instance.sop_instance_uid == sop)
    )
    key = keys.manifest_key(entry.instance, entry.digest) if how == "manifest" else entry.key
    file = folder_of(w, "b") / key
    content = file.read_bytes()
    damaged = {
        "cut short": content[:-10],
        "long, cut short": content[:200_000],
        "other bytes": content[:-1] + bytes([content[-1] ^ 1]),
        "no DICOM": b"nothing" * 100,
        "manifest": b"{}",
        "stream": content[:5_000_000],
    }
    file.write_bytes(damaged[how])
    await w.lose_catalogue("b")
    report = await w.rebuild()
    told = keys.manifest_key(entry.instance, entry.digest) if is_streamed else key
    assert report.unreadable_keys == (f"b/{told}",)
    assert (report.unreadable, report.owed, report.rebuilt) == (1, 1, ("b",))
    for other in "ac":
        (debt,) = await w.catalogue(other).debts(10)
        assert (debt.site, debt.digest) == ("b", entry.digest)
    await Repair(w.grid, w.settings.upkeep).run_once()
    await w.fill("b")
    assert await said_by(w.catalogue("b")) == before
    assert file.read_bytes() == content


async def test_a_copy_without_its_metadata_has_what_other_sites_know_and_is_put_anew(w: World) -> None:
    stored = await w.store("1.2.3.1", more=pixel_data())
    metadata = folder_of(w, "b") / f"{stored.version.key}.meta"
    metadata.unlink()
    before = await said_by(w.catalogue("b"))
    await w.lose_catalogue("b")
    report = await w.rebuild()
    assert (report.without_provenance, report.owed, report.unreadable) == (1, 1, 0)
    assert await said_by(w.catalogue("b")) == before
    await Repair(w.grid, w.settings.upkeep).run_once()
    assert json.loads(metadata.read_text())["calling-ae"] == "CT1"


async def test_a_copy_of_which_nobody_knows_who_sent_it_is_not_lost(w: World) -> None:
    stored = await w.store("1.2.3.1", more=pixel_data())
    file = folder_of(w, "b") / stored.version.key
    file.with_name(f"{file.name}.meta").write_text("{")
    for name in "abc":
        await w.lose_catalogue(name)
    only_b = await rebuilding_of(w, "b")
    assert only_b == ("b",)
    (row,) = await w.catalogue("b").rows_of(stored.version.instance)
    assert row.provenance == Provenance(row.provenance.received_at, "", "", "")
    assert row.provenance.received_at > BEGIN


async def test_a_long_copy_that_is_cut_short_is_told_though_nobody_knows_its_size(w: World) -> None:
    stored = await w.store("1", more=pixel_data(300_000))
    file = folder_of(w, "b") / stored.version.key
    file.write_bytes(file.read_bytes()[:200_000])
    for name in "abc":
        await w.lose_catalogue(name)
    report = await w.new_rebuild().run_once(names=["b"])
    assert (report.added, report.unreadable, report.owed) == (0, 1, 0)


async def test_one_row_that_cannot_be_added_does_not_end_it(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_all_kinds(w)
    before = await said_by(w.catalogue("b"))
    await w.lose_catalogue("b")
    catalogue = type(w.catalogue("b"))
    add = catalogue.add

    async def refuses(self: object, row: Row, **options: object) -> object:
        if row.version.instance.sop_instance_uid == "1.2.3.2":
            raise ArithmeticError("odd as none was before")
        return await add(self, row, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(catalogue, "add", refuses)
    report = await w.rebuild()
    assert (report.added, report.unreadable) == (len(before.entries) - 1, 1)


async def test_a_site_whose_objects_fail_half_way_is_left_to_be_rebuilt(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_all_kinds(w)
    await w.lose_catalogue("b")
    folder = folder_of(w, "b")
    aside = folder.with_name("aside")
    listed = rebuilding.Rebuild._add_facts

    async def goes_away(self: rebuilding.Rebuild, *arguments: object) -> None:
        await listed(self, *arguments)  # type: ignore[arg-type]
        folder.rename(aside)

    monkeypatch.setattr(rebuilding.Rebuild, "_add_facts", goes_away)
    report = await w.new_rebuild().run_once()
    assert (report.rebuilt, report.left) == ((), ("b",))
    assert record.of_sites(w.settings)["b"].rebuilding
    monkeypatch.undo()
    aside.rename(folder)
    await w.until("b", votes=False)
    assert (await w.rebuild()).rebuilt == ("b",)


async def test_one_object_that_the_store_cannot_read_does_not_end_it(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_all_kinds(w)
    await w.lose_catalogue("b")
    objects = type(w.grid.sites["b"].objects)
    head = objects.head

    async def refuses(self: object, key: str) -> object:
        if "/1.2.3.2/" in key:
            raise ObjectFault("it is wedged")
        return await head(self, key)  # type: ignore[arg-type]

    monkeypatch.setattr(objects, "head", refuses)
    report = await w.rebuild()
    assert (report.rebuilt, report.unreadable, report.owed) == (("b",), 1, 1)
