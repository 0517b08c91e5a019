"""Peers that talk nonsense, fall silent or go away get the standard's answer, and all others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from cluster.dicom import client, command_set, uids
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.requestor import ProposedContext
from storage_node.services.status import Status
from tests.integration.dicom.peers import raw_association, read_pdu
from tests.integration.services.instances import CT, element, held, instance, store
from tests.integration.services.node import EXPLICIT, IMPLICIT, Node, running_node

REQUEST = command_set.encode(
    CommandSet(
        CommandField.C_STORE_RQ,
        message_id=1,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
        priority=0,
    ),
    has_data_set=True,
)
COMMAND, LAST_OF_COMMAND, LAST = 1, 3, 2
ECHO_CONTEXT, CT_CONTEXT = 1, 3


def p_data(data: bytes, control: int, context_id: int = CT_CONTEXT, *, too_long: int = 0) -> bytes:
    length = len(data) + 2
    item = (length + too_long).to_bytes(4, "big") + bytes((context_id, control)) + data
    return b"\x04\0" + len(item).to_bytes(4, "big") + item


def faults(kind: str) -> float:
    return REGISTRY.get_sample_value("atria_upper_layer_faults_total", {"kind": kind}) or 0.0


async def assert_others_go_on(node: Node) -> None:
    assert await held(node) == [], "nothing of it is visible"
    contexts = (ProposedContext(uids.VERIFICATION, (IMPLICIT,)), ProposedContext(CT, (EXPLICIT,)))
    async with await node.connect(*contexts) as association:
        assert await client.echo(association) == Status.SUCCESS
        assert (await store(association, instance())).status == Status.SUCCESS


@pytest.mark.parametrize(
    ("sent", "reason", "kind"),
    [
        (p_data(REQUEST, LAST_OF_COMMAND, context_id=99), 6, "context_id"),
        (p_data(REQUEST, LAST_OF_COMMAND, context_id=4), 6, "context_id"),
        (p_data(b"no command set", LAST_OF_COMMAND), 6, "command_set"),
        (p_data(REQUEST[:-3], LAST_OF_COMMAND), 6, "command_set"),
        (p_data(b"", LAST_OF_COMMAND), 6, "command_set"),
        (p_data(REQUEST, LAST), 5, "fragment"),
        (p_data(REQUEST, LAST_OF_COMMAND) + p_data(REQUEST, COMMAND), 5, "fragment"),
        (p_data(REQUEST, LAST_OF_COMMAND) + p_data(b"", LAST, ECHO_CONTEXT), 5, "fragment"),
        (p_data(REQUEST, LAST_OF_COMMAND, too_long=9), 6, "pdu_length"),
        (b"\x04\0\0\0\0\x05" + bytes(5), 6, "pdu_length"),
        (b"\x04\0\xff\xff\xff\xff", 6, "pdu_length"),
        (b"\x05\0\0\0\0\x05" + bytes(5), 6, "pdu_length"),
        (b"\x09\0\0\0\0\x04" + bytes(4), 1, "unrecognized_pdu"),
        (b"GET / HTTP/1.1\r\n\r\n", 1, "unrecognized_pdu"),
        (b"\x02\0\0\0\0\x04" + bytes(4), 2, "unexpected_pdu"),
        (b"\x06\0\0\0\0\x04" + bytes(4), 2, "unexpected_pdu"),
        (p_data(REQUEST, LAST_OF_COMMAND) + b"\x05\0\0\0\0\x04" + bytes(4), 2, "fragment"),
    ],
)
async def test_what_breaks_the_protocol_is_aborted_with_its_reason(
    node: Node, sent: bytes, reason: int, kind: str
) -> None:
    before = faults(kind)
    async with raw_association(node.port) as (reader, writer):
        writer.write(sent)
        assert await read_pdu(reader) == (7, bytes((0, 0, 2, reason)))
        writer.close()
        assert await reader.read() == b""
    assert faults(kind) == before + 1
    await assert_others_go_on(node)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "idle_timeout"),
        (b"\x04\0\0", "message_timeout"),
        (p_data(REQUEST, LAST_OF_COMMAND), "message_timeout"),
        (p_data(REQUEST, LAST_OF_COMMAND) + p_data(instance(), 0)[:-5], "message_timeout"),
    ],
)
async def test_a_peer_that_falls_silent_is_aborted(tmp_path: Path, sent: bytes, kind: str) -> None:
    limits = {"message_timeout_s": 0.2, "idle_timeout_s": 0.4}
    before = faults(kind)
    async with running_node(tmp_path / "data", upper_layer=limits) as node:
        async with raw_association(node.port) as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(10):
                assert await read_pdu(reader) == (7, bytes(4))
        assert faults(kind) == before + 1
        await assert_others_go_on(node)


@pytest.mark.parametrize(
    "sent",
    [
        p_data(REQUEST, COMMAND),
        p_data(REQUEST, LAST_OF_COMMAND),
        p_data(REQUEST, LAST_OF_COMMAND) + p_data(instance(), 0),
        p_data(REQUEST, LAST_OF_COMMAND)
        + p_data(instance(more=element(0x7FE00010, "OW", bytes(20_000_000))[:20]), 0)
        + p_data(bytes(1_000_000), 0) * 19
        + p_data(bytes(1_000_000), 0)[:-1],
    ],
)
async def test_what_a_peer_did_not_finish_before_it_went_leaves_nothing(tmp_path: Path, sent: bytes) -> None:
    data = tmp_path / "data"
    async with running_node(data, limits={"memory_limit_bytes": 1 << 20}) as node:
        async with raw_association(node.port) as (_, writer):
            writer.write(sent)
            await writer.drain()
        await assert_others_go_on(node)
    files = [path for path in data.glob("site-*/objects/**/*") if path.is_file()]
    assert sorted(path.suffix for path in files) == [".dcm"] * 3 + [".json"] * 3 + [".meta"] * 3


@pytest.mark.parametrize("data_set_type", [0x0000, 0x0001, 0x0102, 0xFFFF])
async def test_any_data_set_type_but_0101_says_that_there_is_one(node: Node, data_set_type: int) -> None:
    usual = (0x0800).to_bytes(2, "little") + (2).to_bytes(4, "little") + (1).to_bytes(2, "little")
    assert REQUEST.count(usual) == 1
    request = REQUEST.replace(usual, usual[:-2] + data_set_type.to_bytes(2, "little"))
    async with raw_association(node.port) as (reader, writer):
        writer.write(p_data(request, LAST_OF_COMMAND) + p_data(instance(), LAST))
        kind, body = await read_pdu(reader)
        assert kind == 4
        response = command_set.decode(body[6:])
        assert (response.status, response.message_id_being_responded_to) == (Status.SUCCESS, 1)


async def test_messages_that_come_ahead_of_their_turn_are_answered_in_order(node: Node) -> None:
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        (context,) = association.contexts_for(CT)
        for number in range(1, 101):
            request = CommandSet(
                CommandField.C_STORE_RQ,
                message_id=number,
                affected_sop_class_uid=CT,
                affected_sop_instance_uid=f"1.2.3.{number}",
            )
            await association.send(context.context_id, request, [instance(f"1.2.3.{number}")])
        for number in range(1, 101):
            response = (await association.receive()).command
            assert (response.message_id_being_responded_to, response.status) == (number, Status.SUCCESS)
