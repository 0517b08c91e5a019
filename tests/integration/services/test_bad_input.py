"""What cannot be kept is refused with the standard's own status; what is merely odd is kept."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from cluster.dicom import client
from cluster.dicom.association import AssociationEnded
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.requestor import ProposedContext, connect
from cluster.dicom.uids import STUDY_ROOT_FIND as STUDY_FIND
from cluster.dicom.uids import STUDY_ROOT_GET as STUDY_GET
from cluster.nouns import Instance
from storage_node.services.status import Status
from tests.integration.services.instances import CT, element, held, instance, store
from tests.integration.services.node import EXPLICIT, IMPLICIT, Node, running_node

DEFLATED = "1.2.840.10008.1.2.1.99"
PRIVATE = "1.2.826.0.1.3680043.9.9999.1"

ITEM, ITEM_END, SEQUENCE_END = (
    struct.pack("<HHI", 0xFFFE, number, length)
    for number, length in ((0xE000, 0xFFFFFFFF), (0xE00D, 0), (0xE0DD, 0))
)
EMPTY_ITEM = ITEM[:4] + bytes(4)
FRAGMENT = ITEM[:4] + struct.pack("<I", 100) + bytes(100)
UNDEFINED_PIXELS = element(0x7FE00010, "OB", b"")[:-4] + b"\xff" * 4 + EMPTY_ITEM
UNDEFINED_SEQUENCE = element(0x00409999, "SQ", b"")[:-4] + b"\xff" * 4 + ITEM + ITEM_END + SEQUENCE_END


@pytest.mark.parametrize(
    ("data_set", "status", "comment"),
    [
        (instance("1.2.4"), Status.DATA_SET_DOES_NOT_MATCH, "SOP Instance UID differs"),
        (instance(sop_class="1.2.840.10008.5.1.4.1.1.4"), Status.DATA_SET_DOES_NOT_MATCH, "SOP Class UID"),
        (instance(study=""), Status.CANNOT_UNDERSTAND, "no Study Instance UID"),
        (instance(series=""), Status.CANNOT_UNDERSTAND, "no Series Instance UID"),
        (instance(sop=""), Status.CANNOT_UNDERSTAND, "no SOP Instance UID"),
        (instance()[:-3], Status.CANNOT_UNDERSTAND, "ends within an element"),
        (
            instance(more=element(0x7FE00010, "OW", bytes(5000))[:-1000]),
            Status.CANNOT_UNDERSTAND,
            "cut short: 1000 bytes",
        ),
        (
            instance(more=element(0x7FE00010, "OW", bytes(50)) + element(0xFFFCFFFC, "OB", bytes(50))[:-7]),
            Status.CANNOT_UNDERSTAND,
            "cut short: 7 bytes",
        ),
        (
            instance(more=UNDEFINED_PIXELS + FRAGMENT[:-7]),
            Status.CANNOT_UNDERSTAND,
            "cut short: 7 bytes",
        ),
        (instance(more=UNDEFINED_SEQUENCE[:-8]), Status.CANNOT_UNDERSTAND, "ends within an element"),
        (b"", Status.CANNOT_UNDERSTAND, "no SOP Instance UID"),
        (bytes(range(256)) * 4, Status.CANNOT_UNDERSTAND, ""),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_the_association_goes_on(
    node: Node, data_set: bytes, status: Status, comment: str
) -> None:
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        response = await store(association, data_set)
        assert response.status == status
        assert response.error_comment is not None
        assert comment in response.error_comment
        assert await held(node) == []
        assert (await store(association, instance())).status == Status.SUCCESS
    assert await held(node) == [Instance("1.2", "1.2.2", "1.2.3")]


async def test_a_refused_large_instance_leaves_nothing_behind(tmp_path: Path) -> None:
    data_set = instance("1.2.4", more=element(0x7FE00010, "OW", bytes(12 * 1024 * 1024)))
    async with (
        running_node(tmp_path / "data", limits={"memory_limit_bytes": 1024 * 1024}) as node,
        await node.connect(ProposedContext(CT, (EXPLICIT,))) as association,
    ):
        assert (await store(association, data_set)).status == Status.DATA_SET_DOES_NOT_MATCH
    files = [
        path
        for path in (tmp_path / "data").glob("site-*/objects/**/*")
        if path.is_file() and path.name != "_site.json"
    ]
    assert files == []


@pytest.mark.parametrize("size_bytes", [100, 3_000_000, 20_000_000])
async def test_a_version_is_the_same_whoever_sends_it_and_comes_back_as_it_was(
    tmp_path: Path, size_bytes: int
) -> None:
    pixels = element(0x7FE00010, "OW", bytes(range(256)) * (size_bytes // 256))
    data_set = instance(more=pixels)
    async with running_node(tmp_path / "data", limits={"memory_limit_bytes": 2 * 1024 * 1024}) as node:
        for _ in range(2):
            async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
                assert (await store(association, data_set)).status == Status.SUCCESS
        (row,) = await node.grid.rows_of(Instance("1.2", "1.2.2", "1.2.3"))
        received = b"".join([piece async for piece in node.grid.read(row.version)])
        assert received[row.version.data_set_offset_bytes :] == data_set


@pytest.mark.parametrize(
    ("sop", "study"),
    [
        ("../../../etc/passwd", "1.2"),
        ("1.2.3", "../.."),
        ("1/2", "1.2"),
        ("1" * 300, "1.2"),
        ("1.02.3", "1.2"),
    ],
)
async def test_a_uid_is_never_a_path(node: Node, sop: str, study: str) -> None:
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        response = await store(association, instance(sop, study=study), sop=sop)
        assert response.status == Status.SUCCESS
    (found,) = await held(node, study)
    assert found == Instance(study, "1.2.2", sop)
    outside = [
        path
        for path in node.settings.data_folder.rglob("*.dcm")
        if not path.is_relative_to(node.settings.data_folder / "site-a" / "objects")
        and not path.is_relative_to(node.settings.data_folder / "site-b" / "objects")
        and not path.is_relative_to(node.settings.data_folder / "site-c" / "objects")
    ]
    assert outside == []


@pytest.mark.parametrize(
    "more",
    [
        element(0x00100020, "LO", b""),
        struct.pack("<HH2sH", 0x0008, 0x0000, b"UL", 4) + struct.pack("<I", 10),
        element(0x00080005, "CS", b"NO SUCH SET"),
        struct.pack("<HH2sH", 0x0010, 0x4000, b"LT", 3) + b"odd",
        element(0xFFFCFFFC, "OB", bytes(100)),
        element(0x00409999, "SQ", b""),
        UNDEFINED_SEQUENCE,
        element(0x00409999, "UN", b"")[:-4] + b"\xff" * 4 + ITEM + ITEM_END + SEQUENCE_END,
        UNDEFINED_PIXELS + FRAGMENT + FRAGMENT + SEQUENCE_END,
        UNDEFINED_PIXELS + SEQUENCE_END,
        element(0x7FE00010, "OW", bytes(10)) + bytes(7),
        bytes(9),
        struct.pack("<HH2sH", 0x0028, 0x0010, b"ZZ", 2) + b"\0\1",
    ],
)
async def test_what_is_merely_odd_is_kept_as_it_is(node: Node, more: bytes) -> None:
    data_set = instance(more=more)
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        assert (await store(association, data_set)).status == Status.SUCCESS
    (row,) = await node.grid.rows_of(Instance("1.2", "1.2.2", "1.2.3"))
    stored = b"".join([piece async for piece in node.grid.read(row.version)])
    assert stored.endswith(data_set)


async def test_a_stray_group_2_is_kept_too(node: Node) -> None:
    data_set = element(0x00020010, "UI", EXPLICIT.encode()) + instance()
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        assert (await store(association, data_set)).status == Status.SUCCESS
    (row,) = await node.grid.rows_of(Instance("1.2", "1.2.2", "1.2.3"))
    assert "group_2" in row.flags
    assert b"".join([piece async for piece in node.grid.read(row.version)]).endswith(data_set)


@pytest.mark.parametrize("cut", [0, 9])
async def test_a_deflated_instance_is_kept_unless_it_is_cut_short(node: Node, cut: int) -> None:
    deflater = zlib.compressobj(wbits=-15)
    whole = deflater.compress(instance(more=element(0x7FE00010, "OW", bytes(range(256)) * 40)))
    whole += deflater.flush()
    async with await node.connect(ProposedContext(CT, (DEFLATED,))) as association:
        response = await store(association, whole[: len(whole) - cut])
    assert response.status == (Status.CANNOT_UNDERSTAND if cut else Status.SUCCESS)
    assert len(await held(node)) == (0 if cut else 1)


async def test_a_private_class_in_a_private_transfer_syntax_is_kept_as_it_came(node: Node) -> None:
    data_set = instance(sop_class=PRIVATE, more=UNDEFINED_PIXELS + FRAGMENT + SEQUENCE_END)
    async with await node.connect(ProposedContext(PRIVATE, (PRIVATE + ".1",))) as association:
        response = await store(association, data_set, sop_class=PRIVATE)
        assert response.status == Status.SUCCESS
    (row,) = await node.grid.rows_of(Instance("1.2", "1.2.2", "1.2.3"))
    assert (row.version.sop_class_uid, row.version.transfer_syntax_uid) == (PRIVATE, PRIVATE + ".1")
    assert b"".join([piece async for piece in node.grid.read(row.version)]).endswith(data_set)


async def test_of_two_senders_of_one_version_the_earlier_is_remembered(node: Node) -> None:
    for calling_ae in ("FIRST", "SECOND"):
        async with await connect(
            "127.0.0.1",
            node.port,
            calling_ae=calling_ae,
            called_ae="ATRIA",
            contexts=[ProposedContext(CT, (EXPLICIT,))],
            limits=node.settings.upper_layer_limits,
        ) as association:
            assert (await store(association, instance())).status == Status.SUCCESS
    (row,) = await node.grid.rows_of(Instance("1.2", "1.2.2", "1.2.3"))
    assert row.provenance.calling_ae == "FIRST"


async def test_a_command_in_a_context_of_another_service_is_answered_0211(node: Node) -> None:
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        (context,) = association.contexts_for(CT)
        await association.send(context.context_id, CommandSet(CommandField.C_FIND_RQ, message_id=7), [b""])
        response = (await association.receive()).command
        assert response.status == Status.UNRECOGNIZED_OPERATION
        assert (await store(association, instance())).status == Status.SUCCESS


async def test_c_store_without_a_data_set_or_without_its_uids_is_refused(node: Node) -> None:
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        (context,) = association.contexts_for(CT)
        request = CommandSet(CommandField.C_STORE_RQ, message_id=1, affected_sop_class_uid=CT)
        await association.send(context.context_id, request, [instance()])
        assert (await association.receive()).command.status == Status.CANNOT_UNDERSTAND
        await association.send(context.context_id, request)
        assert (await association.receive()).command.status == Status.CANNOT_UNDERSTAND


async def test_an_identifier_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path / "data", limits={"identifier_limit_bytes": 1000}) as node,
        await node.connect(ProposedContext(STUDY_FIND, (EXPLICIT,))) as association,
    ):
        identifier = element(0x00080052, "CS", b"STUDY") + element(0x0020000D, "UI", b"1." * 1000)
        statuses = [command.status async for command, _ in client.find(association, STUDY_FIND, identifier)]
        assert statuses == [Status.OUT_OF_RESOURCES]


async def test_a_find_is_cancelled_between_two_answers(node: Node) -> None:
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        for number in range(300):
            sop = f"1.2.3.{number}"
            await store(association, instance(sop), sop=sop)
    async with await node.connect(ProposedContext(STUDY_FIND, (EXPLICIT,))) as association:
        (context,) = association.contexts_for(STUDY_FIND)
        identifier = element(0x00080018, "UI", b"") + element(0x00080052, "CS", b"IMAGE")
        identifier += element(0x0020000D, "UI", b"1.2") + element(0x0020000E, "UI", b"1.2.2")
        request = CommandSet(CommandField.C_FIND_RQ, message_id=9, affected_sop_class_uid=STUDY_FIND)
        await association.send(context.context_id, request, [identifier])
        cancel = CommandSet(CommandField.C_CANCEL_RQ, message_id_being_responded_to=9)
        await association.send(context.context_id, cancel)
        statuses = []
        while (status := (await association.receive()).command.status) == Status.PENDING:
            statuses.append(status)
        assert status == Status.CANCEL
        assert len(statuses) < 300


async def test_past_the_limit_of_matches_a_find_fails_after_its_pendings(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data", limits={"find_matches": 3}) as node:
        async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
            for number in range(5):
                sop = f"1.2.3.{number}"
                await store(association, instance(sop, study=f"1.2.{number}"), sop=sop)
        async with await node.connect(ProposedContext(STUDY_FIND, (EXPLICIT,))) as association:
            identifier = element(0x00080052, "CS", b"STUDY") + element(0x0020000D, "UI", b"")
            statuses = [c.status async for c, _ in client.find(association, STUDY_FIND, identifier)]
        assert statuses == [Status.PENDING] * 3 + [Status.OUT_OF_RESOURCES]


async def test_a_peer_that_takes_only_implicit_vr_gets_it_converted(node: Node) -> None:
    data_set = instance(more=element(0x00280010, "US", b"\x00\x02"))
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        await store(association, data_set)
    contexts = (
        ProposedContext(STUDY_GET, (EXPLICIT,)),
        ProposedContext(CT, (IMPLICIT,), scu_role=False, scp_role=True),
    )
    received: list[bytes] = []

    async def keep(message: object) -> int:
        data = message.data_set  # type: ignore[attr-defined]
        received.append(b"".join(await data.read(10_000)))
        return 0

    async with await node.connect(*contexts) as association:
        identifier = element(0x00080052, "CS", b"STUDY") + element(0x0020000D, "UI", b"1.2")
        responses = [r async for r in client.get(association, STUDY_GET, identifier, keep)]
    assert responses[-1].status == Status.SUCCESS
    assert responses[-1].number_of_completed_suboperations == 1
    assert received[0][:8] == struct.pack("<HHI", 0x0008, 0x0016, len(CT) + len(CT) % 2)
    assert received[0].endswith(struct.pack("<HHI", 0x0028, 0x0010, 2) + b"\x00\x02")


async def test_a_get_whose_peer_goes_away_leaves_the_node_well(node: Node) -> None:
    pixels = element(0x7FE00010, "OW", bytes(5_000_000))
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        await store(association, instance(more=pixels))
    contexts = (
        ProposedContext(STUDY_GET, (EXPLICIT,)),
        ProposedContext(CT, (EXPLICIT,), scu_role=False, scp_role=True),
    )

    async def go(message: object) -> int:
        association.abort()
        return 0

    association = await node.connect(*contexts)
    with pytest.raises(AssociationEnded):
        async for _ in client.get(
            association,
            STUDY_GET,
            element(0x00080052, "CS", b"STUDY") + element(0x0020000D, "UI", b"1.2"),
            go,
        ):
            pass
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        assert (await store(association, instance())).status == Status.SUCCESS
