"""Conflicts and rejections as a person sees them: listed, looked at, decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cluster.dicom.elements import Element, Elements, pack
from cluster.nouns import FactKind, Instance
from storage_node.grid import choices
from storage_node.grid.choices import Relation
from storage_node.site.failing import Fault
from storage_node.upkeep.conflicts import Versions, choose, conflicts, differences, versions
from storage_node.upkeep.rejections import accept, rejections
from tests.integration.grid.cluster import PROVENANCE, Cluster, arrival, cluster

NAME, ROWS, CODE, DATE = 0x00100010, 0x00280010, 0x00082218, 0x00080020
NAMED = {NAME: Element("PN", b"Doe^Jane")}


async def store(
    running: Cluster, content: bytes, header: Elements = NAMED, *, number: int = 1, syntax: str = "1.2.1"
) -> str:
    sent_at = PROVENANCE.received_at + timedelta(seconds=len(content))
    arrived = replace(
        arrival(number),
        header=pack(header),
        provenance=replace(PROVENANCE, received_at=sent_at),
        transfer_syntax_uid=syntax,
    )
    return (await running.grid.store(arrived, [content])).version.digest


async def decide(running: Cluster, number: int, relation: Relation) -> None:
    """Choose the first of an instance's versions, as it is done when another comes."""
    rows = choices.in_order(await running.grid.rows_of(arrival(number).instance))
    details = choices.details(rows[0].version, map(choices.name, (row.version for row in rows)), relation)
    await running.grid.decide(
        rows[0].version.instance, FactKind.CHOSEN, by="atria", reason="test", details=details
    )


async def listed(running: Cluster) -> list[Versions]:
    return [found async for found in conflicts(running.grid)]


async def rejected(running: Cluster, *uids: str) -> list[str]:
    return [fact.instance.sop_instance_uid async for fact in rejections(running.grid, uids)]


async def test_what_nobody_has_decided_is_listed() -> None:
    async with cluster() as running:
        for number, relation in ((1, Relation.CONFLICT), (2, Relation.UNCOMPARED), (3, Relation.LOSSY)):
            await store(running, b"1", number=number)
            await store(running, b"22", number=number)
            await decide(running, number, relation)
        found = await listed(running)
        assert [(one.instance.sop_instance_uid, one.conflict) for one in found] == [
            ("1.2.3.1", "conflict"),
            ("1.2.3.2", "uncompared"),
        ]
        await running.grid.decide(found[0].instance, FactKind.DELETED, by="jane", reason="test")
        assert [one.instance for one in await listed(running)] == [found[1].instance]


async def test_a_choice_ends_a_conflict_until_another_version_comes() -> None:
    async with cluster() as running:
        first, second = await store(running, b"1"), await store(running, b"22")
        await decide(running, 1, Relation.CONFLICT)
        (found,) = await listed(running)
        assert [row.version.digest for row in found.rows] == [first, second]
        assert found.current.version.digest == first
        await choose(running.grid, found, found.rows[1], by="jane", reason="test")
        assert await listed(running) == []
        (after,) = await versions(running.grid, found.instance.sop_instance_uid)
        assert (after.current.version.digest, after.conflict) == (second, None)
        await store(running, b"333")
        (found,) = await listed(running)
        assert (found.conflict, found.current.version.digest) == (choices.UNDECIDED, second)


async def test_one_site_is_enough_to_list_conflicts() -> None:
    async with cluster() as running:
        await store(running, b"1")
        await store(running, b"22")
        await decide(running, 1, Relation.CONFLICT)
        for name in ("a", "b"):
            running[name].fail(Fault.BEFORE, "facts_in", "studies")
        assert len(await listed(running)) == 1


async def test_versions_are_told_apart_by_what_their_headers_say() -> None:
    async with cluster() as running:
        sequence = Element("SQ", b"\xfe\xff\x00\xe0\0\0\0\0")
        more = {ROWS: Element("US", b"\1\0"), DATE: Element("DA", b"20240101"), CODE: sequence}
        await store(running, b"1", {**NAMED, **more})
        other = {ROWS: Element("US", b"\2\0"), CODE: Element("SQ", b""), DATE: Element("DA", b"20240101")}
        await store(
            running, b"22", {NAME: Element("PN", b"Doe^John"), **other, 0x00091001: Element("LO", b"x")}
        )
        (found,) = await versions(running.grid, "1.2.3.1")
        told = {one.attribute: one.values for one in differences(found.rows)}
        assert told == {
            "PatientName": ("Doe^Jane", "Doe^John"),
            "Rows": ("2 bytes", "2 bytes"),
            "AnatomicRegionSequence": ("8 bytes", "0 bytes"),
            "(0009,1001)": (None, "x"),
        }


async def test_sequences_are_not_told_apart_by_how_they_are_encoded() -> None:
    async with cluster() as running:
        await store(running, b"1", {CODE: Element("SQ", b"one way")})
        await store(running, b"22", {CODE: Element(None, b"another")}, syntax="1.2")
        (found,) = await versions(running.grid, "1.2.3.1")
        assert differences(found.rows) == []


async def test_rejections_are_found_by_any_of_their_uids_and_accepted() -> None:
    async with cluster() as running:
        await store(running, b"1")
        never_came = Instance("1.9", "1.9.1", "1.9.1.1")
        for instance, note in ((arrival(1).instance, "n1"), (arrival(2).instance, "n2"), (never_came, "n1")):
            details = (("code", "113037"), ("note", note))
            await running.grid.decide(instance, FactKind.REJECTED, by="WS", reason="test", details=details)
        everything = ["1.2.3.1", "1.2.3.2", "1.9.1.1"]
        assert await rejected(running) == everything
        assert await rejected(running, "1.2") == await rejected(running, "1.2.3") == everything[:2]
        assert await rejected(running, "1.9.1.1") == ["1.9.1.1"]
        assert await rejected(running, "n1") == ["1.2.3.1", "1.9.1.1"]
        facts = [fact async for fact in rejections(running.grid, ["n1"])]
        accepted = await accept(running.grid, facts, by="jane", reason="test")
        assert (len(accepted.facts), accepted.refused) == (2, ())
        assert await rejected(running) == ["1.2.3.2"]
