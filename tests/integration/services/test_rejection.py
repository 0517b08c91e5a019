"""Rejection notes (IHE RAD IOCM): what they hide, from whom, for how long, and when they are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.dicom import uids
from cluster.dicom.association import Association
from cluster.dicom.requestor import ProposedContext
from cluster.nouns import Fact, FactKind, Instance, Level
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.services.status import Status
from tests.integration.services import asking
from tests.integration.services.instances import CT, instance, store
from tests.integration.services.node import EXPLICIT, Node, running_node
from tests.integration.services.rejection_notes import (
    EXPIRED,
    NOTE,
    PATIENT_SAFETY,
    QUALITY,
    WRONG_WORKLIST_ENTRY,
    document,
    send,
)

ONE, TWO = Instance("1.2", "1.2.2", "1.2.3"), Instance("1.2", "1.2.2", "1.2.4")
ITSELF = Instance("1.2", "1.2.99", NOTE)
CONTEXTS = [ProposedContext(uid, (EXPLICIT,)) for uid in (CT, uids.KEY_OBJECT_SELECTION)]


@pytest.fixture
async def association(node: Node) -> AsyncIterator[Association]:
    async with await node.connect(*CONTEXTS) as connected:
        yield connected


async def stored(association: Association, *instances: Instance) -> None:
    for one in instances:
        sop = one.sop_instance_uid
        response = await store(association, instance(sop), sop=sop)
        assert response.status == Status.SUCCESS


async def shown(node: Node, *, rejected: bool = False) -> list[str]:
    finding = node.grid.find(by_uids(study=["1.2"]), 100, rejected=rejected)
    return [match.uid[-1] async for match in finding]


async def entities(node: Node, level: Level, *, rejected: bool) -> list[int]:
    finding = node.grid.find(by_uids(study=["1.2"], level=level), 100, rejected=rejected)
    return [match.instances async for match in finding]


async def facts(node: Node, subject: Instance) -> list[Fact]:
    known = await node.grid.facts_at_sites(subject)
    assert len(known) == 3
    assert len({tuple(of_site) for of_site in known.values()}) == 1
    return list(known["a"])


@pytest.mark.parametrize(
    ("code", "left"),
    [(QUALITY, ["1.2.4", NOTE]), (PATIENT_SAFETY, ["1.2.4"]), (WRONG_WORKLIST_ENTRY, ["1.2.4"])],
)
async def test_what_a_note_names_is_hidden_also_when_it_is_sent_again(
    node: Node, association: Association, code: str, left: list[str]
) -> None:
    await stored(association, ONE, TWO)
    assert (await send(association, document(code, [ONE]))).status == Status.SUCCESS
    assert await shown(node) == left
    await stored(association, ONE)
    assert await shown(node) == left
    (fact,) = await facts(node, ONE)
    assert (fact.kind, fact.decided_by) == (FactKind.REJECTED, "TESTER")
    assert dict(fact.details) == {"code": code, "note": NOTE}


async def test_what_comes_after_its_rejection_is_hidden(node: Node, association: Association) -> None:
    await send(association, document(PATIENT_SAFETY, [ONE]))
    await stored(association, ONE, TWO)
    assert await shown(node) == ["1.2.4"]


async def test_what_only_the_content_names_is_hidden(node: Node, association: Association) -> None:
    await stored(association, ONE, TWO)
    note = document(PATIENT_SAFETY, [ONE], content=["1.2.3", "1.2.4", "1.2.5"])
    assert (await send(association, note)).status == Status.SUCCESS
    assert await shown(node) == []


async def test_what_expired_is_deleted_and_comes_back_when_it_is_stored_again(
    node: Node, association: Association
) -> None:
    await stored(association, ONE, TWO)
    await send(association, document(EXPIRED, [ONE]))
    assert await shown(node) == ["1.2.4"]
    (fact,) = await facts(node, ONE)
    assert (fact.kind, fact.reason) == (FactKind.DELETED, "Data Retention Policy Expired")
    await stored(association, ONE)
    assert await shown(node) == ["1.2.3", "1.2.4"]
    await send(association, document(EXPIRED, [ONE]))
    assert await shown(node) == ["1.2.3", "1.2.4"], "the note had decided before, and it came back since"


@pytest.mark.parametrize(("code", "scheme"), [("113000", "DCM"), (QUALITY, "99LOCAL")])
async def test_other_documents_hide_nothing(
    node: Node, association: Association, code: str, scheme: str
) -> None:
    await stored(association, ONE)
    assert (await send(association, document(code, [ONE], scheme=scheme))).status == Status.SUCCESS
    assert await shown(node) == ["1.2.3", NOTE]


async def test_a_note_does_not_reject_itself(node: Node, association: Association) -> None:
    await send(association, document(QUALITY, [ITSELF], content=[NOTE]))
    assert await shown(node) == [NOTE]


async def test_who_looks_for_it_is_shown_what_was_rejected_for_quality_and_nothing_else(
    node: Node, association: Association
) -> None:
    await stored(association, ONE, TWO)
    await send(association, document(QUALITY, [ONE, TWO]))
    await node.grid.decide(ITSELF, FactKind.DELETED, by="test", reason="test")
    assert await shown(node) == []
    assert await shown(node, rejected=True) == ["1.2.3", "1.2.4"]
    for level in (Level.STUDY, Level.SERIES):
        assert await entities(node, level, rejected=False) == []
        assert await entities(node, level, rejected=True) == [2]
    await node.grid.decide(ONE, FactKind.DELETED, by="test", reason="test")
    await send(association, document(PATIENT_SAFETY, [TWO], sop="1.2.99.2"))
    assert await shown(node, rejected=True) == []
    assert await entities(node, Level.STUDY, rejected=True) == []


async def test_a_peer_that_may_finds_and_gets_what_was_rejected_for_quality(tmp_path: Path) -> None:
    study = {"StudyInstanceUID": "1.2"}
    for shows in (False, True):
        peers = [{"ae_title": "TESTER", "show_rejected": shows}]
        async with (
            running_node(tmp_path / f"{shows}", peers=peers) as node,
            await node.connect(*CONTEXTS) as association,
        ):
            await stored(association, ONE, TWO)
            await send(association, document(QUALITY, [ONE]))
            series = await asking.found(node, "IMAGE", **study, SeriesInstanceUID="1.2.2")
            assert len(series) == 1 + shows
            assert len(await asking.got(node, **study)) == 1 + shows


async def test_a_note_for_quality_weakens_no_stricter_one(node: Node, association: Association) -> None:
    await stored(association, ONE)
    await send(association, document(PATIENT_SAFETY, [ONE]))
    await send(association, document(QUALITY, [ONE], sop="1.2.99.2"))
    assert await shown(node, rejected=True) == ["1.2.99.2"]


async def test_a_note_that_is_sent_again_does_not_undo_what_a_person_accepted(
    node: Node, association: Association
) -> None:
    await stored(association, ONE)
    await send(association, document(PATIENT_SAFETY, [ONE]))
    await node.grid.decide(ONE, FactKind.ACCEPTED, by="jane", reason="looked at it")
    assert await shown(node) == ["1.2.3"]
    assert (await send(association, document(PATIENT_SAFETY, [ONE]))).status == Status.SUCCESS
    assert await shown(node) == ["1.2.3"]
    await send(association, document(PATIENT_SAFETY, [ONE], sop="1.2.99.2"))
    assert await shown(node) == []


async def test_a_note_is_refused_that_cannot_be_decided_at_enough_sites(
    node: Node, association: Association, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(association, ONE)

    async def unavailable(*_: object) -> None:
        raise CatalogueUnavailable("a", "on purpose")

    for name in ("a", "b"):
        monkeypatch.setattr(node.grid.sites[name].catalogue, "decide", unavailable)
    refused = await send(association, document(PATIENT_SAFETY, [ONE]))
    assert refused.status == Status.OUT_OF_RESOURCES
    assert (refused.error_comment or "").startswith("not rejected: 1 of 2 sites answered")
    monkeypatch.undo()
    await node.grid.sites.probe()
    assert (await send(association, document(PATIENT_SAFETY, [ONE]))).status == Status.SUCCESS
    assert await shown(node) == []


async def test_a_note_that_names_too_many_is_refused(tmp_path: Path) -> None:
    limits = {"rejected_instances": 1}
    async with (
        running_node(tmp_path / "data", limits=limits) as node,
        await node.connect(*CONTEXTS) as association,
    ):
        refused = await send(association, document(PATIENT_SAFETY, [ONE, TWO]))
    assert refused.status == Status.OUT_OF_RESOURCES
    assert refused.error_comment == "the rejection note names more than 1 instances"


async def test_a_document_that_cannot_be_read_is_refused(association: Association) -> None:
    note = document(PATIENT_SAFETY, [ONE])
    del note.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID
    assert (await send(association, note)).status == Status.CANNOT_UNDERSTAND
