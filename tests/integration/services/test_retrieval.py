"""C-GET and C-MOVE: counts, statuses, and peers that take part of it, refuse, or go away."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.filereader import read_dataset
from pynetdicom import AE, evt, register_uid
from pynetdicom.service_class import StorageServiceClass

from cluster.dicom import client, uids
from cluster.dicom.association import Association, AssociationEnded, Message
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.requestor import ProposedContext
from storage_node.services.status import Status
from tests.integration.services.instances import CT, MR, element, identifier, instance, store
from tests.integration.services.node import EXPLICIT, IMPLICIT, Node, running_node

PRIVATE = "1.2.826.0.1.3680043.9.9999.1"
CLASSES = {"1.2.1": CT, "1.2.2": CT, "1.2.3": MR, "1.2.4": PRIVATE}
"""One study of four instances, and the SOP class of each."""
STUDY = identifier("STUDY", StudyInstanceUID="1")
GET = ProposedContext(uids.STUDY_ROOT_GET, (EXPLICIT,))
MOVE = ProposedContext(uids.STUDY_ROOT_MOVE, (EXPLICIT,))


def taken(*classes: str) -> list[ProposedContext]:
    return [ProposedContext(uid, (EXPLICIT,), scu_role=False, scp_role=True) for uid in classes]


@pytest.fixture
async def filled(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Node]:
    destination = {"ae_title": "DEST", "host": "127.0.0.1", "port": unused_tcp_port}
    async with running_node(tmp_path / "data", destinations=[destination]) as node:
        contexts = [ProposedContext(uid, (EXPLICIT,)) for uid in (CT, MR, PRIVATE)]
        async with await node.connect(*contexts) as association:
            for sop, sop_class in CLASSES.items():
                data_set = instance(sop, study="1", series="1.2", sop_class=sop_class)
                response = await store(association, data_set, sop=sop, sop_class=sop_class)
                assert response.status == Status.SUCCESS
        yield node


def counts(response: CommandSet) -> tuple[int | None, ...]:
    return (
        response.number_of_remaining_suboperations,
        response.number_of_completed_suboperations,
        response.number_of_failed_suboperations,
        response.number_of_warning_suboperations,
    )


def failed_uids(identifier: bytes) -> list[str]:
    value = read_dataset(BytesIO(identifier), False, True).FailedSOPInstanceUIDList
    return [value] if isinstance(value, str) else list(value)


async def exchange(
    association: Association, request: CommandSet, status: int = 0, *, cancel_after: int | None = None
) -> tuple[list[CommandSet], list[str]]:
    """Send a request, answer what is sent, and return the responses and the list of what failed."""
    assert request.affected_sop_class_uid is not None
    (context,) = association.contexts_for(request.affected_sop_class_uid)
    await association.send(context.context_id, request, [STUDY])
    cancel = CommandSet(CommandField.C_CANCEL_RQ, message_id_being_responded_to=request.message_id)
    responses: list[CommandSet] = []
    while True:
        message = await association.receive()
        command = message.command
        if command.command_field == CommandField.C_STORE_RQ:
            answer = CommandSet(
                CommandField.C_STORE_RSP,
                message_id_being_responded_to=command.message_id,
                affected_sop_class_uid=command.affected_sop_class_uid,
                affected_sop_instance_uid=command.affected_sop_instance_uid,
                status=status,
            )
            await association.send(message.context.context_id, answer)
            continue
        responses.append(command)
        if len(responses) == cancel_after:
            await association.send(context.context_id, cancel)
        if command.status != Status.PENDING:
            failed = b"" if message.data_set is None else b"".join(await message.data_set.read(10_000))
            return responses, failed_uids(failed) if failed else []


def get_request(message_id: int = 1) -> CommandSet:
    return CommandSet(
        CommandField.C_GET_RQ, message_id=message_id, affected_sop_class_uid=uids.STUDY_ROOT_GET
    )


@pytest.mark.parametrize(
    ("classes", "status", "final", "expected", "failed"),
    [
        ((CT, MR, PRIVATE), 0x0000, Status.SUCCESS, (None, 4, 0, 0), []),
        ((CT, MR), 0x0000, Status.SUB_OPERATIONS_FAILED, (None, 3, 1, 0), ["1.2.4"]),
        ((CT, MR, PRIVATE), 0xB007, Status.SUB_OPERATIONS_FAILED, (None, 0, 0, 4), []),
        ((MR,), 0xA700, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, (None, 0, 4, 0), list(CLASSES)),
        ((), 0x0000, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, (None, 0, 4, 0), list(CLASSES)),
    ],
)
async def test_a_get_tells_how_its_sub_operations_went(
    filled: Node,
    classes: tuple[str, ...],
    status: int,
    final: Status,
    expected: tuple[int | None, ...],
    failed: list[str],
) -> None:
    async with await filled.connect(GET, *taken(*classes)) as association:
        responses, told = await exchange(association, get_request(), status)
    assert [response.number_of_remaining_suboperations for response in responses[:-1]] == [3, 2, 1]
    assert all(sum(n or 0 for n in counts(response)) == 4 for response in responses)
    assert (responses[-1].status, counts(responses[-1]), told) == (final, expected, failed)


async def test_a_study_is_sent_though_no_catalogue_answers_and_that_is_said(filled: Node) -> None:
    for site in filled.settings.sites:
        site.catalogue_file.unlink()
    async with await filled.connect(GET, *taken(CT, MR, PRIVATE)) as association:
        responses, _ = await exchange(association, get_request())
    assert (responses[-1].status, counts(responses[-1])) == (Status.SUCCESS, (None, 4, 0, 0))
    assert responses[-1].error_comment == "no catalogue answers: found by the objects alone"
    for site in filled.settings.sites[:2]:
        site.objects_folder.rename(f"{site.objects_folder}.away")
    async with await filled.connect(GET, *taken(CT, MR, PRIVATE)) as association:
        responses, _ = await exchange(association, get_request())
    assert (responses[-1].status, counts(responses[-1])) == (Status.SUCCESS, (None, 4, 0, 0))
    assert responses[-1].error_comment == "no catalogue answers, too few sites: the latest may be missing"


async def test_a_context_in_which_the_peer_is_no_scp_is_not_sent_in(filled: Node) -> None:
    proposed = [ProposedContext(uid, (EXPLICIT,)) for uid in (CT, MR, PRIVATE)]
    async with await filled.connect(GET, *proposed) as association:
        responses, _ = await exchange(association, get_request())
    assert counts(responses[-1]) == (None, 0, 4, 0)


async def test_a_get_is_cancelled_between_two_sub_operations_and_others_of_that_association_are_not(
    filled: Node,
) -> None:
    async with await filled.connect(GET, *taken(*set(CLASSES.values()))) as association:
        responses, _ = await exchange(association, get_request(7), cancel_after=1)
        assert responses[-1].status == Status.CANCEL
        remaining, completed, failed, warning = counts(responses[-1])
        assert remaining
        assert (remaining + (completed or 0), failed, warning) == (4, 0, 0)
        responses, _ = await exchange(association, get_request(8))
        assert (responses[-1].status, counts(responses[-1])) == (Status.SUCCESS, (None, 4, 0, 0))


async def test_a_retrieval_of_nothing_succeeds(filled: Node) -> None:
    async with await filled.connect(GET, *taken(CT)) as association:

        async def unexpected(message: Message) -> int:
            pytest.fail("nothing was to be sent")

        nothing = identifier("STUDY", StudyInstanceUID="9.9")
        (final,) = [r async for r in client.get(association, uids.STUDY_ROOT_GET, nothing, unexpected)]
    assert (final.status, counts(final)) == (Status.SUCCESS, (None, 0, 0, 0))


async def test_a_release_in_the_middle_of_a_get_is_answered(filled: Node) -> None:
    association = await filled.connect(GET, *taken(CT))
    (context,) = association.contexts_for(uids.STUDY_ROOT_GET)
    await association.send(context.context_id, get_request(), [STUDY])
    await association.receive()
    await association.release()
    async with await filled.connect(GET, *taken(CT)) as association:
        responses, _ = await exchange(association, get_request())
    assert counts(responses[-1]) == (None, 2, 2, 0)


@pytest.mark.parametrize("after", ["request", "store"])
async def test_a_peer_that_goes_away_during_a_get_disturbs_nobody(filled: Node, after: str) -> None:
    association = await filled.connect(GET, *taken(CT))
    (context,) = association.contexts_for(uids.STUDY_ROOT_GET)
    await association.send(context.context_id, get_request(), [STUDY])
    if after != "request":
        await association.receive()
    association.abort()
    await association.closed()
    async with await filled.connect(GET, *taken(CT)) as association:
        responses, _ = await exchange(association, get_request())
    assert counts(responses[-1]) == (None, 2, 2, 0)


async def test_a_response_to_nothing_that_was_asked_aborts_the_association(filled: Node) -> None:
    association = await filled.connect(GET)
    (context,) = association.contexts_for(uids.STUDY_ROOT_GET)
    response = CommandSet(CommandField.C_GET_RSP, message_id_being_responded_to=1, status=0)
    await association.send(context.context_id, response)
    with pytest.raises(AssociationEnded, match="abort"):
        await association.receive()
    await association.closed()


@contextmanager
def destination(node: Node, *classes: str, **options: Any) -> Iterator[list[Any]]:
    """Run pynetdicom's SCP where the settings have DEST; the statuses it is to answer may be given."""
    received: list[Any] = []
    statuses = iter(options.get("statuses", ()))

    def on_store(event: evt.Event) -> int:
        received.append(event.request)
        if options.get("drops"):
            event.assoc.abort()
        return next(statuses, 0)

    def on_connection(event: evt.Event) -> None:
        options.get("connections", []).append("opened")

    register_uid(PRIVATE, "PrivateStorageForTests", StorageServiceClass)
    ae = AE(ae_title=options.get("ae_title", "DEST"))
    ae.require_called_aet = True
    for uid in classes:
        ae.add_supported_context(uid, options.get("syntaxes", [EXPLICIT]))
    address = ("127.0.0.1", node.settings.destinations[0].port)
    server = ae.start_server(
        address, block=False, evt_handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_CONN_OPEN, on_connection)]
    )
    assert server is not None
    try:
        yield received
    finally:
        server.shutdown()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.name.startswith("AcceptorThread"):
                thread.join(5)


def move_request(message_id: int = 11) -> CommandSet:
    return CommandSet(
        CommandField.C_MOVE_RQ,
        message_id=message_id,
        affected_sop_class_uid=uids.STUDY_ROOT_MOVE,
        move_destination="DEST  ",
    )


ALL = (CT, MR, PRIVATE)


@pytest.mark.parametrize(
    ("classes", "options", "final", "expected", "failed"),
    [
        (ALL, {}, Status.SUCCESS, (None, 4, 0, 0), []),
        (ALL, {"syntaxes": [IMPLICIT]}, Status.SUCCESS, (None, 4, 0, 0), []),
        ((CT,), {}, Status.SUB_OPERATIONS_FAILED, (None, 2, 2, 0), ["1.2.3", "1.2.4"]),
        (
            ALL,
            {"statuses": [0x0000, 0xB000, 0xA700, 0xC123]},
            Status.SUB_OPERATIONS_FAILED,
            (None, 1, 2, 1),
            ["1.2.3", "1.2.4"],
        ),
        (ALL, {"drops": True}, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, (None, 0, 4, 0), list(CLASSES)),
        (ALL, {"ae_title": "OTHER"}, Status.UNABLE_TO_PERFORM_SUB_OPERATIONS, (None, 0, 4, 0), list(CLASSES)),
    ],
    ids=["all", "converted", "some-classes", "statuses", "drops", "refuses"],
)
async def test_a_move_tells_how_its_sub_operations_went(
    filled: Node,
    classes: tuple[str, ...],
    options: dict[str, Any],
    final: Status,
    expected: tuple[int | None, ...],
    failed: list[str],
) -> None:
    with destination(filled, *classes, **options) as received:
        async with await filled.connect(MOVE) as association:
            responses, told = await exchange(association, move_request())
    assert all(response.status == Status.PENDING for response in responses[:-1])
    assert all(sum(n or 0 for n in counts(response)) == 4 for response in responses)
    assert (responses[-1].status, counts(responses[-1]), sorted(told)) == (final, expected, failed)
    for request in received:
        assert request.MoveOriginatorApplicationEntityTitle == "TESTER"
        assert request.MoveOriginatorMessageID == 11
    if "ae_title" in options:
        assert "called AE title" in (responses[-1].error_comment or "")


@pytest.mark.parametrize(("options", "tried"), [({"ae_title": "OTHER"}, 1), ({"drops": True}, 3)])
async def test_a_destination_that_drops_associations_is_tried_again_one_that_rejects_for_good_is_not(
    filled: Node, options: dict[str, Any], tried: int
) -> None:
    connections: list[str] = []
    with destination(filled, *ALL, **options, connections=connections):
        async with await filled.connect(MOVE) as association:
            await exchange(association, move_request())
    assert len(connections) == tried


async def test_a_move_is_cancelled_between_two_sub_operations(filled: Node) -> None:
    with destination(filled, *ALL) as received:
        async with await filled.connect(MOVE) as association:
            responses, _ = await exchange(association, move_request(), cancel_after=1)
    assert responses[-1].status == Status.CANCEL
    remaining, completed, *_ = counts(responses[-1])
    assert (remaining or 0) + (completed or 0) == 4
    assert len(received) == completed


async def test_a_move_whose_requestor_goes_away_ends_and_disturbs_nobody(filled: Node) -> None:
    with destination(filled, *ALL):
        association = await filled.connect(MOVE)
        (context,) = association.contexts_for(uids.STUDY_ROOT_MOVE)
        await association.send(context.context_id, move_request(), [STUDY])
        association.abort()
        await association.closed()
        async with await filled.connect(MOVE) as association:
            responses, _ = await exchange(association, move_request())
    assert counts(responses[-1]) == (None, 4, 0, 0)


async def test_an_unknown_destination_is_a801(filled: Node) -> None:
    async with await filled.connect(MOVE) as association:
        (final,) = [
            response
            async for response in client.move(association, uids.STUDY_ROOT_MOVE, STUDY, "N\\BODY" * 3)
        ]
    assert final.status == Status.MOVE_DESTINATION_UNKNOWN
    assert final.error_comment is not None
    assert len(final.error_comment) <= 64


async def test_what_comes_back_of_an_instance_is_its_current_version(filled: Node) -> None:
    data_set = instance("1.2.1", study="1", series="1.2", more=element(0x00204000, "LT", b"newer "))
    async with await filled.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        assert (await store(association, data_set, sop="1.2.1")).status == Status.SUCCESS
    received: list[bytes] = []

    async def keep(message: Message) -> int:
        assert message.data_set is not None
        received.append(b"".join(await message.data_set.read(10_000)))
        return 0

    wanted = identifier("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="1.2", SOPInstanceUID="1.2.1")
    async with await filled.connect(GET, *taken(CT)) as association:
        responses = [r async for r in client.get(association, uids.STUDY_ROOT_GET, wanted, keep)]
    assert counts(responses[-1]) == (None, 1, 0, 0)
    assert received == [data_set]
