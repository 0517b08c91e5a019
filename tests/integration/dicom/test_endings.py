from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from cluster.dicom import client
from cluster.dicom.association import Association, AssociationEnded
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.dicom.pdu import Abort, AssociateRJ, ReleaseRP, ReleaseRQ
from cluster.dicom.requestor import AssociationRejected, connect
from tests.integration.dicom.peers import (
    CONTEXTS,
    CT,
    EXPLICIT_VR_LE,
    LIMITS,
    REQUEST,
    connected,
    raw,
    raw_association,
    read_pdu,
    reply,
    scripted,
    serving,
)
from tests.unit.dicom.exchange import ECHO, RESPONSE, STORE, message
from tests.waiting import soon

ABORT, RELEASE_RP = 7, 6
OUTCOMES = "atria_association_outcomes_total"


async def test_garbage_is_answered_with_an_abort_and_others_go_on() -> None:
    async with serving() as served, await connected(served.port) as association:
        async with raw(served.port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await read_pdu(reader))[0] == ABORT
        async with raw_association(served.port) as (reader, writer):
            writer.write(b"\x04\0\0\0\0\x06\0\0\0\x02\x99\x03")
            assert await read_pdu(reader) == (ABORT, b"\0\0\2\6")
        assert await served.endings.get() == "protocol_error"
        assert await client.echo(association) == 0


async def test_data_before_the_acceptance_is_answered_with_an_abort(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as served, raw(served.port) as (reader, writer):
        writer.write(REQUEST.encode() + message(ECHO))
        assert await read_pdu(reader) == (ABORT, b"\0\0\2\2")
        assert not served.associations
    assert not caplog.records, "a fault of the peer, not of ours"


async def test_without_a_request_the_connection_is_closed_after_artim() -> None:
    limits = UpperLayerLimits(artim_timeout_s=0.1)
    async with serving(limits=limits) as served, raw(served.port) as (reader, writer):
        writer.write(REQUEST.encode()[:-1])
        assert await reader.read() == b""


async def test_a_peer_that_does_not_close_after_an_abort_is_closed_after_artim() -> None:
    limits = UpperLayerLimits(artim_timeout_s=0.1)
    async with serving(limits=limits) as served, raw(served.port) as (reader, writer):
        writer.write(b"\x99" * 100)
        assert (await read_pdu(reader))[0] == ABORT
        writer.write(b"\x99" * 100)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_a_peer_that_does_not_close_after_its_release_is_closed_after_artim() -> None:
    limits = UpperLayerLimits(artim_timeout_s=0.1)
    async with serving(limits=limits) as served, raw_association(served.port) as (reader, writer):
        writer.write(ReleaseRQ().encode())
        assert (await read_pdu(reader))[0] == RELEASE_RP
        assert await reader.read() == b""
        assert await served.endings.get() == "released"


async def test_a_release_is_answered_after_the_messages_before_it() -> None:
    async with serving() as served, raw_association(served.port) as (reader, writer):
        writer.write(message(ECHO) + message(ECHO) + ReleaseRQ().encode())
        assert [(await read_pdu(reader))[0] for _ in range(3)] == [4, 4, RELEASE_RP]


async def test_an_idle_peer_is_aborted() -> None:
    limits = UpperLayerLimits(idle_timeout_s=0.1, message_timeout_s=30)
    async with serving(limits=limits) as served, raw_association(served.port) as (reader, _):
        assert (await read_pdu(reader))[0] == ABORT
        assert await served.endings.get() == "timeout"


async def test_a_peer_that_stops_in_the_middle_of_a_message_is_aborted() -> None:
    limits = UpperLayerLimits(idle_timeout_s=30, message_timeout_s=0.1)
    for cut in (3, 100, 20_000):
        async with serving(limits=limits) as served, raw_association(served.port) as (reader, writer):
            writer.write(message(STORE, bytes(40_000))[:cut])
            assert (await read_pdu(reader))[0] == ABORT
            assert await served.endings.get() == "timeout"


async def test_a_peer_is_not_timed_out_while_it_waits_for_us() -> None:
    limits = UpperLayerLimits(idle_timeout_s=0.1, message_timeout_s=0.1)

    async def slow(association: Association) -> None:
        message = await association.receive()
        await asyncio.sleep(0.5)
        await association.send(message.context.context_id, reply(message))
        await association.receive()

    async with serving(slow, limits=limits) as served, await connected(served.port) as association:
        assert await client.echo(association) == 0


async def test_a_peer_that_takes_nothing_is_given_up() -> None:
    limits = UpperLayerLimits(idle_timeout_s=30, message_timeout_s=0.2, artim_timeout_s=0.2)
    ended: asyncio.Future[tuple[Association, str]] = asyncio.get_running_loop().create_future()

    async def flood(association: Association) -> None:
        message = await association.receive()
        try:
            while True:
                await association.send(message.context.context_id, reply(message, 0xFF00), [bytes(1 << 20)])
        except AssociationEnded as error:
            ended.set_result((association, error.how))
            raise

    async with serving(flood, limits=limits) as served, raw_association(served.port) as (_, writer):
        writer.write(message(ECHO))
        association, how = await ended
        assert how == "timeout"
        await association.closed()


async def test_a_peer_that_says_goodbye_and_takes_nothing_is_closed_all_the_same() -> None:
    limits = UpperLayerLimits(artim_timeout_s=0.2)
    blocked: asyncio.Future[Association] = asyncio.get_running_loop().create_future()

    async def flood(association: Association) -> None:
        message = await association.receive()
        asyncio.get_running_loop().call_later(0.3, blocked.set_result, association)
        while True:
            await association.send(message.context.context_id, reply(message, 0xFF00), [bytes(1 << 20)])

    async with serving(flood, limits=limits) as served, raw_association(served.port) as (_, writer):
        writer.write(message(ECHO))
        association = await blocked
        writer.write_eof()
        async with soon("the connection is closed"):
            await association.closed()


async def test_a_lost_connection_ends_what_is_underway() -> None:
    reading = asyncio.Event()
    endings: asyncio.Queue[str] = asyncio.Queue()

    async def handle(association: Association) -> None:
        try:
            message = await association.receive()
            reading.set()
            assert message.data_set is not None
            await message.data_set.read(1 << 30)
        except AssociationEnded as error:
            assert association.ended
            endings.put_nowait(error.how)
            raise

    async with serving(handle) as served:
        async with raw_association(served.port) as (_, writer):
            writer.write(message(STORE, bytes(4 << 20))[: 3 << 20])
            await reading.wait()
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        assert await endings.get() == "lost"


async def test_an_abort_by_the_peer_reaches_the_handler() -> None:
    async with serving() as served, raw_association(served.port) as (reader, writer):
        writer.write(Abort(0, 0).encode())
        assert await served.endings.get() == "aborted"
        assert await reader.read() == b""


async def test_a_handler_that_fails_aborts_its_association_and_no_other() -> None:
    async def handle(association: Association) -> None:
        message = await association.receive()
        if message.command.command_field == 1:
            raise RuntimeError("a fault of ours")
        await association.send(message.context.context_id, reply(message))

    async with serving(handle) as served, await connected(served.port) as other:
        failing = await connected(served.port)
        with pytest.raises(AssociationEnded) as ended:
            await client.store(
                failing,
                sop_class_uid=CT,
                sop_instance_uid="1",
                transfer_syntax_uid=EXPLICIT_VR_LE,
                data_set=[b"12"],
            )
        assert ended.value.how == "aborted"
        await failing.closed()
        assert await client.echo(other) == 0


async def test_a_handler_that_returns_leaves_the_release_to_be_answered_and_nothing_else() -> None:
    async def handle(association: Association) -> None:
        message = await association.receive()
        await association.send(message.context.context_id, reply(message))

    async with serving(handle) as served:
        async with await connected(served.port) as association:
            assert await client.echo(association) == 0
        association = await connected(served.port)
        assert await client.echo(association) == 0
        with pytest.raises(AssociationEnded):
            await client.echo(association)
        await association.closed()


async def test_at_the_ceiling_the_next_is_rejected_until_one_has_ended() -> None:
    policy = AcceptancePolicy("ATRIA", max_associations=1)
    async with serving(policy=policy) as served:
        async with await connected(served.port):
            with pytest.raises(AssociationRejected) as rejected:
                await connected(served.port)
            assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 2)
            assert "local limit exceeded" in str(rejected.value)
        await served.endings.get()
        async with await connected(served.port) as association:
            assert await client.echo(association) == 0


async def test_another_called_ae_title_is_rejected_when_it_is_checked() -> None:
    policy = AcceptancePolicy("OTHER", check_called_ae_title=True)
    async with serving(policy=policy) as served:
        with pytest.raises(AssociationRejected) as rejected:
            await connected(served.port)
        assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 7)


async def test_a_drain_lets_associations_come_to_their_end() -> None:
    async with serving() as served:
        assert served.acceptor is not None
        async with raw(served.port) as (reader, _):
            association = await connected(served.port)
            draining = asyncio.create_task(served.acceptor.drain(10.0))
            assert await reader.read() == b""
            assert await client.echo(association) == 0
            with pytest.raises(OSError):
                await connected(served.port)
            assert not draining.done()
            await association.release()
            await draining
            assert served.acceptor.associations == 0


async def test_a_drain_aborts_what_has_not_ended_in_time() -> None:
    async def handle(association: Association) -> None:
        await association.receive()
        await asyncio.sleep(3600)

    async with serving(handle) as served:
        assert served.acceptor is not None
        association = await connected(served.port)
        asking = asyncio.create_task(client.echo(association))
        await asyncio.sleep(0.05)
        await served.acceptor.drain(0.05)
        with pytest.raises(AssociationEnded) as ended:
            await asking
        assert ended.value.how == "aborted"
        await association.closed()


@pytest.mark.parametrize(
    ("answer", "how"),
    [(Abort(2, 1).encode(), "aborted"), (b"\x99" * 20, "protocol_error"), (b"", "lost")],
)
async def test_a_requestor_says_how_its_request_failed(answer: bytes, how: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_pdu(reader)
        writer.write(answer)
        if how == "protocol_error":
            await reader.read()

    async with scripted(script) as port:
        with pytest.raises(AssociationEnded) as ended:
            await connected(port)
        assert ended.value.how == how


@pytest.mark.parametrize(
    ("farewell", "how"),
    [
        (Abort(2, 0).encode(), "aborted"),
        (ReleaseRQ().encode(), "released"),
        (ReleaseRP().encode(), "protocol_error"),
    ],
)
async def test_an_end_that_comes_with_the_acceptance_is_the_end_of_what_was_established(
    farewell: bytes, how: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_pdu(reader)
        writer.write(RESPONSE.encode() + farewell)
        await reader.read()

    established, ended_so = counted("atria_associations"), counted(OUTCOMES, outcome=how)
    async with scripted(script) as port:
        association = await connected(port)
        with pytest.raises(AssociationEnded) as ended:
            await client.echo(association)
        assert ended.value.how == how
        assert counted("atria_associations") == established
        assert counted(OUTCOMES, outcome=how) == ended_so + 1


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, {"role": "requestor", **labels}) or 0.0


async def test_a_requestor_does_not_wait_for_ever_for_an_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(script) as port:
        with pytest.raises(AssociationEnded) as ended:
            await connected(port, dataclasses.replace(LIMITS, artim_timeout_s=0.1))
        assert ended.value.how == "timeout"


async def test_a_rejection_says_why() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_pdu(reader)
        writer.write(AssociateRJ(1, 1, 3).encode())
        await reader.read()

    async with scripted(script) as port:
        with pytest.raises(AssociationRejected, match="calling AE title not recognized"):
            await connected(port)


async def test_a_port_where_nobody_listens_is_an_os_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            await connected(unused.getsockname()[1])


def _peer(
    then: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_pdu(reader)
        accepted = dataclasses.replace(RESPONSE, results=RESPONSE.results[:1])
        writer.write(accepted.encode())
        await then(reader, writer)
        await reader.read()

    return script


async def test_a_release_collision_ends_in_a_release() -> None:
    async def collide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await read_pdu(reader))[0] == 5
        writer.write(ReleaseRQ().encode())
        assert (await read_pdu(reader))[0] == RELEASE_RP
        writer.write(ReleaseRP().encode())

    async with scripted(_peer(collide)) as port:
        association = await connected(port)
        await association.release()
        with pytest.raises(AssociationEnded) as ended:
            await association.receive()
        assert ended.value.how == "released"


async def test_a_release_by_the_acceptor_is_answered_by_an_idle_requestor() -> None:
    released = asyncio.Event()

    async def release(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ReleaseRQ().encode())
        assert (await read_pdu(reader))[0] == RELEASE_RP
        released.set()
        writer.close()

    async with scripted(_peer(release)) as port:
        association = await connected(port)
        await released.wait()
        await association.closed()
        assert association.ended


async def test_a_release_that_is_not_answered_is_given_up() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(_peer(ignore)) as port:
        association = await connected(port, dataclasses.replace(LIMITS, artim_timeout_s=0.2))
        with pytest.raises(AssociationEnded) as ended:
            await association.release()
        assert ended.value.how == "timeout"
        await association.closed()


async def test_what_arrives_during_a_release_is_dropped() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await read_pdu(reader))[0] == 5
        writer.write(message(STORE, bytes(5 << 20)) + ReleaseRP().encode())

    async with scripted(_peer(talk)) as port:
        association = await connected(port)
        await association.release()


async def test_an_exception_in_the_block_aborts_the_association() -> None:
    async with serving() as served:
        with pytest.raises(KeyError):
            async with await connected(served.port):
                raise KeyError("something else")
        assert await served.endings.get() == "aborted"


@dataclasses.dataclass(frozen=True)
class _Fields:
    consumed_bytes: int
    source: str
    association_id: str | None
    is_local: bool = False


def _preface(data: bytes) -> _Fields | None:
    if not b"PREFACE ".startswith(data[:8]):
        raise ValueError("no preface")
    end = data.find(b"\n")
    if end < 0:
        return None
    return _Fields(end + 1, data[8:end].decode(), "an-id" if end > 8 else None)


async def test_a_preface_tells_who_the_peer_is() -> None:
    async with serving(preface=_preface) as served, raw(served.port) as (reader, writer):
        data = b"PREFACE 192.0.2.7:4711\n" + REQUEST.encode() + message(ECHO)
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_pdu(reader))[0] == 2
        assert (await read_pdu(reader))[0] == 4
        [association] = served.associations
        assert (association.source, association.id) == ("192.0.2.7:4711", "an-id")


@pytest.mark.parametrize("data", [b"\1\0\0\0", b"PREFACE \n", b""])
async def test_a_wrong_preface_or_a_probe_is_closed_and_the_next_is_served(data: bytes) -> None:
    async with serving(preface=_preface) as served:
        async with raw(served.port) as (reader, writer):
            writer.write(data)
            writer.write_eof()
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        async with raw(served.port) as (reader, writer):
            writer.write(b"PREFACE 192.0.2.7:4711\n" + REQUEST.encode())
            assert (await read_pdu(reader))[0] == 2


async def test_a_request_with_128_contexts_is_read_and_answered() -> None:
    async with serving() as served:
        contexts = [dataclasses.replace(CONTEXTS[1], abstract_syntax=f"1.2.3.{i}") for i in range(128)]
        async with await connect(
            "127.0.0.1", served.port, calling_ae="ME", called_ae="YOU", contexts=contexts, limits=LIMITS
        ) as association:
            assert len(association.contexts) == 128
