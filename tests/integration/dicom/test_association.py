from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cluster.dicom import client, uids
from cluster.dicom.association import Association, AssociationEnded, DataSetStream, Message
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.faults import LocalProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.requestor import ProposedContext, connect
from tests.integration.dicom.peers import (
    CT,
    EXPLICIT_VR_LE,
    IMPLICIT_VR_LE,
    LIMITS,
    connected,
    reply,
    serving,
)

DATA = bytes(range(256)) * 4111


async def _store(association: Association, data: bytes | list[bytes], uid: str = "1.2.3") -> CommandSet:
    parts = [data] if isinstance(data, bytes) else data
    return await client.store(
        association,
        sop_class_uid=CT,
        sop_instance_uid=uid,
        transfer_syntax_uid=EXPLICIT_VR_LE,
        data_set=parts,
    )


@pytest.mark.parametrize("pdu_length", [4096, 16384, 20001, 1 << 20])
async def test_what_is_stored_arrives_as_it_was_sent_whatever_the_pdu_length(pdu_length: int) -> None:
    limits = UpperLayerLimits(artim_timeout_s=2.0, max_pdu_length_bytes=pdu_length)
    async with serving(limits=limits) as served:
        async with await connected(served.port) as association:
            assert association.peer_max_pdu_length_bytes == pdu_length
            assert await client.echo(association) == 0
            for data in (DATA, b"", b"x", DATA * 5):
                assert (await _store(association, data)).status == 0
            assert (await _store(association, [DATA, b"", DATA[:7], DATA])).status == 0
        assert served.stored == [DATA, b"", b"x", DATA * 5, DATA + DATA[:7] + DATA]
        assert await served.endings.get() == "released"


async def test_an_asynchronous_data_set_is_sent_as_it_comes() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            await asyncio.sleep(0)
            yield DATA

    async with serving() as served, await connected(served.port) as association:
        response = await client.store(
            association,
            sop_class_uid=CT,
            sop_instance_uid="1.2.3",
            transfer_syntax_uid=EXPLICIT_VR_LE,
            data_set=parts(),
        )
        assert response.status == 0
        assert served.stored == [DATA * 20]


async def test_a_data_set_that_fails_while_it_is_sent_aborts_the_association() -> None:
    def parts() -> AsyncIterator[bytes]:
        async def generate() -> AsyncIterator[bytes]:
            yield DATA
            raise OSError("the disk is gone")

        return generate()

    async with serving() as served:
        association = await connected(served.port)
        with pytest.raises(OSError, match="the disk is gone"):
            await client.store(
                association,
                sop_class_uid=CT,
                sop_instance_uid="1.2.3",
                transfer_syntax_uid=EXPLICIT_VR_LE,
                data_set=parts(),
            )
        assert association.ended
        assert await served.endings.get() == "aborted"
        assert served.stored == []
        await association.closed()


async def test_reading_stops_at_the_limit_and_goes_on_from_there() -> None:
    sizes: list[int] = []

    async def handle(association: Association) -> None:
        while True:
            message = await association.receive()
            assert message.data_set is not None
            while buffers := await message.data_set.read(100_000):
                sizes.append(sum(len(buffer) for buffer in buffers))
            assert message.data_set.at_end
            assert message.data_set.received_bytes == len(DATA)
            await association.send(message.context.context_id, reply(message))

    async with serving(handle) as served, await connected(served.port) as association:
        await _store(association, DATA)
    assert sizes == [100_000] * (len(DATA) // 100_000) + [len(DATA) % 100_000]


async def test_a_data_set_that_nobody_reads_makes_the_peer_wait_and_is_bounded_in_memory() -> None:
    """A handler that has something else to do holds no more than the window and a block."""
    reached = asyncio.Event()
    go_on = asyncio.Event()
    held: list[int] = []
    limits = UpperLayerLimits(artim_timeout_s=2.0, receive_window_bytes=1 << 20)

    async def handle(association: Association) -> None:
        message = await association.receive()
        assert message.data_set is not None
        reached.set()
        await go_on.wait()
        held.append(message.data_set.received_bytes)
        await message.data_set.discard()
        await association.send(message.context.context_id, reply(message, 0xA700))
        await association.receive()

    async with serving(handle, limits=limits) as served, await connected(served.port) as association:
        sending = asyncio.create_task(_store(association, [DATA] * 40))
        await reached.wait()
        # The sender stands still when its write buffer and the kernel's are full.
        previous = -1
        while (unsent := association._connection._transport.get_write_buffer_size()) != previous:  # type: ignore[union-attr]
            previous = unsent
            await asyncio.sleep(0.1)
        assert not sending.done()
        go_on.set()
        assert (await sending).status == 0xA700
    assert 1 << 20 <= held[0] <= 3 << 20


async def test_what_a_service_leaves_unread_does_not_disturb_the_next_message() -> None:
    left: list[DataSetStream] = []

    async def handle(association: Association) -> None:
        while True:
            message = await association.receive()
            assert all(data_set._received.buffered_bytes == 0 for data_set in left)
            if message.data_set is not None:
                left.append(message.data_set)
            await association.send(message.context.context_id, reply(message, 0xC000))

    async with serving(handle) as served, await connected(served.port) as association:
        for _ in range(3):
            assert (await _store(association, DATA * 6)).status == 0xC000
            assert await client.echo(association) == 0xC000


async def test_buffers_stay_as_they_are_after_more_has_arrived() -> None:
    kept: list[memoryview] = []

    async def handle(association: Association) -> None:
        while True:
            message = await association.receive()
            assert message.data_set is not None
            kept.extend(await message.data_set.read(1 << 30))
            await association.send(message.context.context_id, reply(message))

    async with serving(handle) as served, await connected(served.port) as association:
        instances = [bytes([i]) * (1000 * i) for i in range(40)]
        for instance in instances:
            await _store(association, instance)
    assert b"".join(kept) == b"".join(instances)


def _find_handler(matches: int) -> Callable[[Association], Awaitable[None]]:
    async def handle(association: Association) -> None:
        while True:
            message = await association.receive()
            assert message.data_set is not None
            identifier = b"".join(await message.data_set.read(1 << 20))
            message_id = message.command.message_id
            assert message_id is not None
            status = 0
            for _ in range(matches):
                if association.cancelled(message_id):
                    status = 0xFE00
                    break
                await association.send(message.context.context_id, reply(message, 0xFF00), [identifier])
                await asyncio.sleep(0)
            await association.send(message.context.context_id, reply(message, status))

    return handle


async def test_a_query_yields_each_answer_and_the_final_one() -> None:
    async with serving(_find_handler(3)) as served, await connected(served.port) as association:
        answers = [answer async for answer in client.find(association, uids.STUDY_ROOT_FIND, b"identifier")]
    assert [(response.status, data) for response, data in answers] == [
        *[(0xFF00, b"identifier")] * 3,
        (0x0000, None),
    ]


async def test_a_query_that_is_left_early_is_cancelled_and_the_association_goes_on() -> None:
    async with serving(_find_handler(10**9)) as served, await connected(served.port) as association:
        answers = client.find(association, uids.STUDY_ROOT_FIND, b"identifier")
        await anext(answers)
        await answers.aclose()
        answers = client.find(association, uids.STUDY_ROOT_FIND, b"again")
        assert (await anext(answers))[1] == b"again"
        await answers.aclose()


async def test_a_cancelled_request_does_not_cancel_a_later_one_of_the_same_message_id() -> None:
    seen: list[bool] = []

    async def handle(association: Association) -> None:
        while True:
            message = await association.receive()
            assert message.command.message_id == 1
            await association.send(message.context.context_id, reply(message))
            seen.append(association.cancelled(1))

    async with serving(handle) as served, await connected(served.port) as association:
        [context] = association.contexts_for(uids.VERIFICATION)
        request = CommandSet(CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=uids.VERIFICATION)
        cancel = CommandSet(CommandField.C_CANCEL_RQ, message_id_being_responded_to=1)
        await association.send(context.context_id, cancel)
        for _ in range(2):
            await association.send(context.context_id, request)
            await association.receive()
    assert seen == [False, False]


async def test_a_move_yields_its_responses() -> None:
    async def handle(association: Association) -> None:
        message = await association.receive()
        assert message.command.move_destination == "ELSEWHERE"
        await association.send(message.context.context_id, reply(message, 0xFF00))
        await association.send(message.context.context_id, reply(message, 0xA801))
        await association.receive()

    async with serving(handle) as served, await connected(served.port) as association:
        responses = client.move(association, uids.STUDY_ROOT_MOVE, b"identifier", "ELSEWHERE")
        assert [response.status async for response in responses] == [0xFF00, 0xA801]


async def test_instances_come_back_on_the_association_that_asked_for_them() -> None:
    async def handle(association: Association) -> None:
        message = await association.receive()
        statuses = []
        for number in range(3):
            response = await client.store(
                association,
                sop_class_uid=CT,
                sop_instance_uid=f"1.2.{number}",
                transfer_syntax_uid=EXPLICIT_VR_LE,
                data_set=[DATA],
            )
            statuses.append(response.status)
            await association.send(message.context.context_id, reply(message, 0xFF00))
        assert statuses == [0, 0xA700, 0]
        await association.send(message.context.context_id, reply(message, 0xB000))
        await association.receive()

    received: list[str | None] = []

    async def on_store(message: Message) -> int:
        received.append(message.command.affected_sop_instance_uid)
        if message.command.affected_sop_instance_uid == "1.2.1":
            return 0xA700
        assert message.data_set is not None
        assert b"".join(await message.data_set.read(1 << 30)) == DATA
        return 0

    async with serving(handle) as served, await connected(served.port) as association:
        responses = client.get(association, uids.STUDY_ROOT_GET, b"identifier", on_store)
        assert [response.status async for response in responses] == [0xFF00, 0xFF00, 0xFF00, 0xB000]
    assert received == ["1.2.0", "1.2.1", "1.2.2"]


async def test_an_answer_to_something_else_aborts_the_association() -> None:
    async def handle(association: Association) -> None:
        message = await association.receive()
        wrong = CommandSet(CommandField.C_ECHO_RSP, message_id_being_responded_to=999, status=0)
        await association.send(message.context.context_id, wrong)
        await association.receive()

    async with serving(handle) as served:
        association = await connected(served.port)
        with pytest.raises(AssociationEnded) as ended:
            await client.echo(association)
        assert ended.value.how == "protocol_error"
        await association.closed()


async def test_contexts_and_roles_are_what_was_negotiated() -> None:
    contexts = [
        ProposedContext(CT, (EXPLICIT_VR_LE, IMPLICIT_VR_LE), scu_role=False, scp_role=True),
        ProposedContext("1.2.840.10008.5.1.4.31", (IMPLICIT_VR_LE,)),
        ProposedContext(uids.VERIFICATION, (IMPLICIT_VR_LE,)),
    ]
    async with (
        serving() as served,
        await connect(
            "127.0.0.1", served.port, calling_ae="ME", called_ae="YOU", contexts=contexts, limits=LIMITS
        ) as association,
    ):
        assert sorted(association.contexts) == [1, 5]
        [context] = association.contexts_for(CT)
        assert context.transfer_syntax == EXPLICIT_VR_LE
        assert (context.scu_role, context.scp_role) == (False, True)
        assert association.contexts_for("1.2.840.10008.5.1.4.31") == []
        with pytest.raises(client.NoContext):
            await _store(association, b"")
        with pytest.raises(LocalProtocolError):
            await association.send(3, CommandSet(CommandField.C_ECHO_RQ, message_id=1))
        [accepted] = served.associations
        assert dict(accepted.contexts) == dict(association.contexts)
        assert (accepted.calling_ae, accepted.called_ae) == ("ME", "YOU")
        assert accepted.source.startswith("127.0.0.1:")


@pytest.mark.parametrize("count", [0, 129])
async def test_too_few_or_too_many_contexts_are_the_callers_fault(count: int) -> None:
    contexts = [ProposedContext(CT, (EXPLICIT_VR_LE,))] * count
    with pytest.raises(LocalProtocolError):
        await connect("127.0.0.1", 1, calling_ae="ME", called_ae="YOU", contexts=contexts, limits=LIMITS)


async def test_no_socket_waits_for_more_to_send() -> None:
    async with serving() as served, await connected(served.port) as association:
        assert await client.echo(association) == 0
        for side in (association, *served.associations):
            transport = side._connection._transport
            assert transport is not None
            option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert option == 1
