"""An acceptor that drains: who is idle between messages goes, and nobody else does before the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.dicom import client
from cluster.dicom.association import Association, AssociationEnded
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.pdu import Abort
from tests.integration.dicom.peers import CT, Served, connected, raw_association, read_pdu, reply, serving
from tests.unit.dicom.exchange import ECHO, STORE, message
from tests.waiting import soon

IDLE_S = 0.2
LIMIT_S = 30.0
ABORT, P_DATA = 7, 4


@asynccontextmanager
async def draining(served: Served, idle_s: float = IDLE_S) -> AsyncIterator[asyncio.Task[None]]:
    """Drain meanwhile; at the end of the block it must come to its end by itself."""
    assert served.acceptor is not None
    async with soon("all associations have ended", within_s=LIMIT_S - 5):
        task = asyncio.create_task(served.acceptor.drain(LIMIT_S, idle_s))
        yield task
        await task


async def test_who_is_silent_between_messages_is_aborted_soon() -> None:
    async with serving() as served, raw_association(served.port) as (reader, writer):
        writer.write(message(ECHO))
        assert (await read_pdu(reader))[0] == P_DATA
        async with draining(served):
            assert (await read_pdu(reader))[0] == ABORT
        assert await served.endings.get() == "aborted"


async def test_who_has_asked_for_nothing_yet_is_aborted_soon() -> None:
    async with serving() as served, raw_association(served.port) as (reader, _), draining(served):
        assert (await read_pdu(reader))[0] == ABORT


async def test_who_goes_on_talking_goes_on_to_the_end() -> None:
    idle_s = 1.0
    async with (
        serving() as served,
        await connected(served.port) as association,
        draining(served, idle_s) as drained,
    ):
        for _ in range(30):
            assert await client.echo(association) == 0
            await asyncio.sleep(idle_s / 20)
        assert not drained.done()
        await association.release()


@pytest.mark.parametrize("cut", [3, 100, 20_000])
async def test_nobody_is_aborted_in_the_middle_of_a_message(cut: int) -> None:
    async with serving() as served, raw_association(served.port) as (reader, writer):
        whole = message(STORE, bytes(40_000))
        writer.write(whole[:cut])
        async with draining(served):
            await asyncio.sleep(4 * IDLE_S)
            writer.write(whole[cut:])
            assert (await read_pdu(reader))[0] == P_DATA
            assert (await read_pdu(reader))[0] == ABORT
        assert served.stored == [bytes(40_000)]


async def test_nobody_is_aborted_who_waits_for_an_answer() -> None:
    async def slow(association: Association) -> None:
        while True:
            asked = await association.receive()
            await asyncio.sleep(4 * IDLE_S)
            await association.send(asked.context.context_id, reply(asked))

    async with serving(slow) as served, raw_association(served.port) as (reader, writer):
        writer.write(message(ECHO))
        await asyncio.sleep(IDLE_S / 2)
        async with draining(served):
            assert (await read_pdu(reader))[0] == P_DATA
            assert (await read_pdu(reader))[0] == ABORT


async def test_nobody_is_aborted_who_has_pending_answers_only() -> None:
    async def pending(association: Association) -> None:
        asked = await association.receive()
        await association.send(asked.context.context_id, reply(asked, 0xFF00))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4 * IDLE_S):
                await association.receive()
        await association.send(asked.context.context_id, reply(asked))
        await association.receive()

    async with serving(pending) as served, raw_association(served.port) as (reader, writer):
        writer.write(message(ECHO))
        assert (await read_pdu(reader))[0] == P_DATA
        async with draining(served):
            assert (await read_pdu(reader))[0] == P_DATA
            assert (await read_pdu(reader))[0] == ABORT


async def test_nobody_is_aborted_whom_we_have_asked_something() -> None:
    async def ask(association: Association) -> None:
        asked = await association.receive()
        await association.send(
            3, CommandSet(CommandField.C_STORE_RQ, message_id=9, affected_sop_class_uid=CT), [b"12"]
        )
        await association.send(asked.context.context_id, reply(asked))
        assert (await association.receive()).command.command_field == CommandField.C_STORE_RSP
        await association.receive()

    async with serving(ask) as served, raw_association(served.port) as (reader, writer):
        writer.write(message(ECHO))
        for _ in range(3):
            assert (await read_pdu(reader))[0] == P_DATA
        async with draining(served):
            await asyncio.sleep(4 * IDLE_S)
            answer = CommandSet(CommandField.C_STORE_RSP, message_id_being_responded_to=9, status=0)
            writer.write(message(answer))
            assert (await read_pdu(reader))[0] == ABORT


async def test_nobody_is_aborted_for_whom_something_is_still_done_after_the_answer() -> None:
    async def report_later(association: Association) -> None:
        asked = await association.receive()
        await association.send(asked.context.context_id, reply(asked))
        await asyncio.sleep(4 * IDLE_S)
        await association.send(1, ECHO)
        await association.receive()

    async with serving(report_later) as served, raw_association(served.port) as (reader, writer):
        writer.write(message(ECHO))
        async with draining(served):
            assert (await read_pdu(reader))[0] == P_DATA
            assert (await read_pdu(reader))[0] == P_DATA
            writer.write(Abort(0, 0).encode())


async def test_without_an_idle_limit_who_is_silent_is_aborted_at_the_time_limit_only() -> None:
    async with serving() as served:
        assert served.acceptor is not None
        association = await connected(served.port)
        drained = asyncio.create_task(served.acceptor.drain(2.0))
        await asyncio.sleep(2 * IDLE_S)
        assert await client.echo(association) == 0
        await drained
        with pytest.raises(AssociationEnded):
            await client.echo(association)
        await association.closed()
