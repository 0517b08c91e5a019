"""C-GET and C-MOVE of what people have corrected: the copy is, and what is stored is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.filereader import read_dataset

from cluster.dicom import client, uids
from cluster.dicom.association import Message
from cluster.dicom.requestor import ProposedContext
from cluster.nouns import FactKind, Instance
from storage_node.catalogue.matching import by_uids
from storage_node.services.status import Status
from tests.integration.services.instances import CT, element, identifier, instance, store
from tests.integration.services.node import EXPLICIT, IMPLICIT, Node, running_node
from tests.integration.services.test_retrieval import MOVE, STUDY, destination, exchange, move_request

GET = ProposedContext(uids.STUDY_ROOT_GET, (EXPLICIT,))
MIB = 1024 * 1024
STUDY_1, SERIES_1 = Instance("1", "", ""), Instance("1", "1.2", "")


def image(sop: str, pixels: int = 4) -> bytes:
    patient = element(0x00100010, "PN", b"WRONG^NAME") + element(0x00100020, "LO", b"P0")
    whole = instance(sop, study="1", series="1.2")
    at = whole.index(b"\x20\x00\x0d\x00")
    long = b"\xe0\x7f\x10\x00OW\0\0" + pixels.to_bytes(4, "little") + bytes(range(256)) * (pixels // 256)
    return whole[:at] + element(0x00080060, "CS", b"CT") + patient + whole[at:] + long + bytes(pixels % 256)


@pytest.fixture
async def filled(request: pytest.FixtureRequest, tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Node]:
    """Two instances of one study; a parameter says more of the destination."""
    more = getattr(request, "param", {})
    to = {"ae_title": "DEST", "host": "127.0.0.1", "port": unused_tcp_port, **more}
    limits = {"memory_limit_bytes": MIB}
    async with running_node(tmp_path / "data", destinations=[to], limits=limits) as node:
        async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
            for sop, pixels in (("1.2.1", 4), ("1.2.2", 3 * MIB)):
                assert (await store(association, image(sop, pixels), sop=sop)).status == Status.SUCCESS
        yield node


async def correct(node: Node, subject: Instance, **texts: str) -> None:
    details = tuple((name.removeprefix("x"), text) for name, text in texts.items())
    await node.grid.decide(subject, FactKind.CORRECTED, by="me", reason="test", details=details)


async def get(node: Node, syntax: str = EXPLICIT) -> dict[str, bytes]:
    received: dict[str, bytes] = {}

    async def keep(message: Message) -> int:
        assert message.data_set is not None
        uid = message.command.affected_sop_instance_uid
        assert uid is not None
        received[uid] = b"".join(await message.data_set.read(8 * MIB))
        return 0

    taken = ProposedContext(CT, (syntax,), scu_role=False, scp_role=True)
    async with await node.connect(GET, taken) as association:
        async for response in client.get(association, uids.STUDY_ROOT_GET, STUDY, keep):
            last = response
    assert last.number_of_failed_suboperations == 2 - len(received)
    return received


def parsed(data_set: bytes, syntax: str = EXPLICIT) -> Dataset:
    return read_dataset(BytesIO(data_set), syntax == IMPLICIT, True)


async def stored(node: Node) -> list[bytes]:
    """Read what all sites hold, File Meta Information and all."""
    found = []
    async for match in node.grid.find(by_uids(study=["1"]), 10):
        for name in node.grid.sites.names:
            pieces = [piece async for piece in node.grid.read_at(node.grid.sites[name], match.version)]
            found.append(b"".join(pieces))
    return found


async def test_a_copy_on_its_way_out_is_corrected_and_what_is_stored_is_untouched(filled: Node) -> None:
    before = await stored(filled)
    assert len(before) == 6
    assert await get(filled) == {"1.2.1": image("1.2.1"), "1.2.2": image("1.2.2", 3 * MIB)}
    await correct(filled, STUDY_1, x00100010="Doe^Jane", x00100020="P1", x00100021="HOSP")
    await correct(filled, SERIES_1, x00080060="MR")
    await correct(filled, Instance.patient("P1\nHOSP"), x00100030="19700101")
    received = await get(filled)
    for sop, pixels in (("1.2.1", 4), ("1.2.2", 3 * MIB)):
        copy, original = parsed(received[sop]), parsed(image(sop, pixels))
        told = [str(copy[keyword].value) for keyword in ("PatientName", "PatientID", "IssuerOfPatientID")]
        assert [*told, copy.PatientBirthDate, copy.Modality] == ["Doe^Jane", "P1", "HOSP", "19700101", "MR"]
        assert copy.PixelData == original.PixelData
        assert copy.SOPInstanceUID == sop
    assert await stored(filled) == before
    await correct(filled, STUDY_1)
    await correct(filled, SERIES_1)
    assert await get(filled) == {"1.2.1": image("1.2.1"), "1.2.2": image("1.2.2", 3 * MIB)}


async def test_a_corrected_copy_is_converted_for_a_peer_that_takes_no_other(filled: Node) -> None:
    await correct(filled, STUDY_1, x00100010="Müller^Jürgen")
    received = await get(filled, IMPLICIT)
    copy = parsed(received["1.2.1"], IMPLICIT)
    assert (str(copy.PatientName), copy.SpecificCharacterSet) == ("Müller^Jürgen", "ISO_IR 192")
    assert list(received) == ["1.2.1"], "the other is too large to be converted"


@pytest.mark.parametrize(
    ("filled", "name"), [({}, "Doe^Jane"), ({"as_stored": True}, "WRONG^NAME")], indirect=["filled"]
)
async def test_a_destination_gets_what_is_stored_if_the_settings_say_so(filled: Node, name: str) -> None:
    await correct(filled, STUDY_1, x00100010="Doe^Jane")
    with destination(filled, CT) as received:
        async with await filled.connect(MOVE) as association:
            await exchange(association, move_request())
    assert {str(parsed(request.DataSet.getvalue()).PatientName) for request in received} == {name}


async def test_a_query_is_answered_by_what_was_corrected(filled: Node) -> None:
    await correct(filled, STUDY_1, x00100010="Müller^Jürgen", x00100020="P1")
    await correct(filled, SERIES_1, x00080060="MR")
    keys = {"PatientName": "muller*", "PatientID": "", "ModalitiesInStudy": "MR"}
    async with await filled.connect(ProposedContext(uids.STUDY_ROOT_FIND, (EXPLICIT,))) as association:
        wanted = identifier("STUDY", **keys, NumberOfPatientRelatedStudies="")
        told = [answer async for _, answer in client.find(association, uids.STUDY_ROOT_FIND, wanted)]
    (found,) = [parsed(answer) for answer in told if answer is not None]
    assert (str(found.PatientName), found.PatientID) == ("Müller^Jürgen", "P1")
    assert (found.ModalitiesInStudy, found.NumberOfPatientRelatedStudies) == ("MR", 1)


async def test_what_cannot_be_corrected_is_not_sent_and_says_so(filled: Node) -> None:
    """As it is stored it may be told to be another patient's."""
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + element(0x00080018, "UI", b"1.2")
    whole = instance("1.2.3", study="1", series="1.2", more=element(0x00204000, "LT", b"comment "))
    broken = whole + nested + element(0x00280010, "US", b"\1\0")
    async with await filled.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        assert (await store(association, broken, sop="1.2.3")).status == Status.SUCCESS
    received: list[str] = []

    async def keep(message: Message) -> int:
        received.append(message.command.affected_sop_instance_uid or "")
        assert message.data_set is not None
        await message.data_set.read(8 * MIB)
        return 0

    await correct(filled, STUDY_1, x00100010="Doe^Jane")
    taken = ProposedContext(CT, (EXPLICIT,), scu_role=False, scp_role=True)
    wanted = identifier("STUDY", StudyInstanceUID="1")
    async with await filled.connect(GET, taken) as association:
        responses = [r async for r in client.get(association, uids.STUDY_ROOT_GET, wanted, keep)]
    assert (responses[-1].number_of_failed_suboperations, received) == (1, ["1.2.1", "1.2.2"])
