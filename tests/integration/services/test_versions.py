"""Several versions of one instance: which of them is current, when another comes (design, "Writing")."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from cluster.dicom.association import Association
from cluster.dicom.requestor import ProposedContext
from cluster.nouns import Fact, FactKind, Instance
from cluster.settings import MIB
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.grid import choices
from storage_node.services.conversion import convert
from storage_node.services.status import Status
from tests.integration.services import asking
from tests.integration.services.instances import CT, element, instance, store
from tests.integration.services.node import EXPLICIT, IMPLICIT, Node, running_node

ONE = Instance("1.2", "1.2.2", "1.2.3")
CONTEXT = ProposedContext(CT, (EXPLICIT,))


def image(pixels: bytes = b"pixels", *, name: str = "A", lossy: bool = False) -> bytes:
    """Return the instance with these pixels, as it is sent."""
    shape = b"".join(
        element(tag, "US", struct.pack("<H", value))
        for tag, value in ((0x00280010, 2), (0x00280011, len(pixels) // 2 % 50_000), (0x00280100, 8))
    )
    loss = element(0x00282110, "CS", b"01") if lossy else b""
    whole = instance(more=element(0x00280002, "US", struct.pack("<H", 1)) + shape + loss)
    patient = element(0x00100010, "PN", name.encode())
    at = whole.index(b"\x20\x00\x0d\x00")
    return whole[:at] + patient + whole[at:] + element(0x7FE00010, "OW", pixels)


@pytest.fixture
async def association(node: Node) -> AsyncIterator[Association]:
    async with await node.connect(CONTEXT) as connected:
        yield connected


async def sent(association: Association, *data_sets: bytes) -> None:
    for data_set in data_sets:
        assert (await store(association, data_set)).status == Status.SUCCESS


async def current(node: Node) -> bytes:
    """Return the data set that a retrieval gives."""
    (match,) = [match async for match in node.grid.find(by_uids(study=["1.2"]), 10)]
    file = b"".join([block async for block in node.grid.read(match.version)])
    return file[match.version.data_set_offset_bytes :]


async def facts(node: Node) -> list[Fact]:
    known = await node.grid.facts_at_sites(ONE)
    assert len({tuple(of_site) for of_site in known.values()}) == 1
    return list(known["a"])


def found(relation: str) -> float:
    return REGISTRY.get_sample_value("atria_conflicts_total", {"relation": relation}) or 0.0


async def test_the_newest_is_current_of_versions_with_the_same_pixels(
    node: Node, association: Association
) -> None:
    for name in ("A", "B", "C"):
        await sent(association, image(name=name))
        assert await current(node) == image(name=name)
    assert await facts(node) == []


async def test_the_first_stays_current_when_other_pixels_come(node: Node, association: Association) -> None:
    before = found("conflict")
    await sent(association, image(), image(b"others"))
    assert await current(node) == image()
    (fact,) = await facts(node)
    assert (fact.kind, fact.decided_by, fact.reason) == (FactKind.CHOSEN, "atria", "conflict: other pixels")
    assert found("conflict") == before + 1
    assert len(await node.grid.rows_of(ONE)) == 2


async def test_what_is_sent_again_decides_nothing(node: Node, association: Association) -> None:
    await sent(association, image(), image(b"others"))
    decided, told = await facts(node), found("conflict")
    await sent(association, image(), image(b"others"), image())
    assert await facts(node) == decided
    assert found("conflict") == told
    assert await current(node) == image()


async def test_a_correction_of_what_was_kept_in_a_conflict_is_current(
    node: Node, association: Association
) -> None:
    corrected = image(name="B")
    await sent(association, image(), image(b"others"), corrected)
    assert await current(node) == corrected
    (fact, _) = await facts(node)
    assert choices.relation_of(fact) is choices.Relation.CONFLICT, "somebody still has to look"
    await sent(association, image(b"others"), image())
    assert await current(node) == corrected
    await sent(association, image(b"thirds"))
    assert await current(node) == corrected


async def test_an_older_correction_that_is_sent_again_is_not_current_again(
    node: Node, association: Association
) -> None:
    second, third = image(name="B"), image(name="C")
    await sent(association, image(), image(b"others"), second, third)
    newest = (await node.grid.rows_of(ONE))[0].version
    details = choices.details(newest, [choices.name(newest)], choices.Relation.CONFLICT)
    await node.grid.decide(ONE, FactKind.CHOSEN, by="atria", reason="of very many", details=details)
    await sent(association, second)
    assert await current(node) == third


async def test_what_is_lossy_does_not_end_a_conflict(node: Node, association: Association) -> None:
    await sent(association, image(), image(b"others"), image(b"pixelS", lossy=True))
    (fact, _) = await facts(node)
    assert choices.relation_of(fact) is choices.Relation.CONFLICT


async def test_lossy_never_replaces_lossless(node: Node, association: Association) -> None:
    await sent(association, image(), image(b"pixelS", lossy=True))
    assert await current(node) == image()
    (fact,) = await facts(node)
    assert fact.reason == "lossy after lossless"


async def test_the_same_content_in_another_encoding_is_taken(node: Node, association: Association) -> None:
    await sent(association, instance())
    implicit = convert(instance(), EXPLICIT, IMPLICIT)
    async with await node.connect(ProposedContext(CT, (IMPLICIT,))) as other:
        assert (await store(other, implicit)).status == Status.SUCCESS
    assert await facts(node) == []
    assert await current(node) == implicit


async def test_what_a_person_chose_stays_whatever_comes(node: Node, association: Association) -> None:
    await sent(association, image(), image(b"others"))
    (newest, *_) = await node.grid.rows_of(ONE)
    details = choices.details(newest.version, [])
    chosen = await node.grid.decide(ONE, FactKind.CHOSEN, by="jane", reason="mine", details=details)
    assert await current(node) == image(b"others")
    told = found(choices.UNDECIDED)
    await sent(association, image(name="B"), image(b"others", name="B"), image(b"thirds"))
    assert found(choices.UNDECIDED) == told + 3
    assert await current(node) == image(b"others")
    assert (await facts(node))[0] == chosen


async def test_what_is_sent_after_a_deletion_is_current_whatever_was_there(
    node: Node, association: Association
) -> None:
    first, second, third = image(), image(b"others"), image(b"thirds")
    await sent(association, first, second)
    for data_set in (second, first, third):
        await node.grid.decide(ONE, FactKind.DELETED, by="jane", reason="wrong patient")
        await sent(association, data_set)
        assert await current(node) == data_set
        await sent(association, data_set)
        assert await current(node) == data_set, "it is known by now"
    (oldest, *_) = choices.in_order(await node.grid.rows_of(ONE))
    details = choices.details(oldest.version, [])
    await node.grid.decide(ONE, FactKind.CHOSEN, by="jane", reason="mine", details=details)
    await node.grid.decide(ONE, FactKind.DELETED, by="jane", reason="wrong patient")
    await sent(association, second)
    assert await current(node) == second


async def test_a_version_is_refused_whose_conflict_cannot_be_decided(
    node: Node, association: Association, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> None:
        raise CatalogueUnavailable("a", "on purpose")

    await sent(association, image())
    for name in ("a", "b"):
        monkeypatch.setattr(node.grid.sites[name].catalogue, "decide", unavailable)
    refused = await store(association, image(b"others"))
    assert refused.status == Status.OUT_OF_RESOURCES
    assert (refused.error_comment or "").startswith("no version chosen: 1 of 2 sites answered")
    monkeypatch.undo()
    await node.grid.sites.probe()
    await sent(association, image(b"others"))
    assert await current(node) == image()


async def test_two_that_come_at_the_same_time_are_judged_alike(node: Node, association: Association) -> None:
    async with await node.connect(CONTEXT) as other:
        await asyncio.gather(sent(association, image()), sent(other, image(b"others")))
    first = choices.in_order(await node.grid.rows_of(ONE))[0]
    assert {fact.detail("digest") for fact in await facts(node)} == {first.version.digest}


@pytest.mark.parametrize(
    ("pixels", "reasons"),
    [(b"pixels", []), (b"others", ["conflict: pixels that cannot be compared"])],
)
async def test_what_is_too_large_for_memory_is_compared_as_it_is_encoded(
    tmp_path: Path, pixels: bytes, reasons: list[str]
) -> None:
    limits = {"decoded_limit_bytes": MIB, "memory_limit_bytes": MIB}
    first, second = image(b"pixels" * 2 * MIB), image(pixels * 2 * MIB, name="B")
    async with (
        running_node(tmp_path / "data", limits=limits) as node,
        await node.connect(CONTEXT) as association,
    ):
        await sent(association, first, second)
        assert await current(node) == (first if reasons else second)
        assert [fact.reason for fact in await facts(node)] == reasons


async def test_what_is_too_large_to_be_compared_keeps_the_first(tmp_path: Path) -> None:
    limits = {"compared_limit_bytes": 100}
    async with (
        running_node(tmp_path / "data", limits=limits) as node,
        await node.connect(CONTEXT) as association,
    ):
        await sent(association, image(), image(name="B"))
        assert await current(node) == image()
        (fact,) = await facts(node)
        assert fact.reason == "conflict: pixels that cannot be compared"


async def test_a_choice_changes_what_is_found_and_retrieved(node: Node, association: Association) -> None:
    first, second = image(name="A"), image(b"others", name="B")
    await sent(association, first, second)
    newest, oldest = await node.grid.rows_of(ONE)
    for row, name, expected in ((newest, b"B", second), (oldest, b"A", first)):
        details = choices.details(row.version, [])
        await node.grid.decide(ONE, FactKind.CHOSEN, by="jane", reason="mine", details=details)
        (answer,) = await asking.found(
            node, "IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.2", PatientName=""
        )
        assert element(0x00100010, "PN", name) in answer
        assert await asking.got(node, StudyInstanceUID="1.2") == [expected]
