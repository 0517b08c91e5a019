"""Who may connect, and what must stand before the first PDU: the PROXY protocol, as workers ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.typing import EventDict

from cluster import proxy_protocol
from cluster.dicom.association import Association
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.dicom.refusals import LOGGED_AT_ONCE
from cluster.proxy_protocol import Command, Endpoint, Header
from tests.integration.dicom.peers import REQUEST, raw, read_pdu, serving
from tests.unit.dicom.exchange import ECHO, message

CLIENT = Endpoint(ip_address("192.0.2.7"), 4711)
PROXY = proxy_protocol.encode(
    Header(Command.PROXY, CLIENT, Endpoint(ip_address("192.0.2.1"), 104), "balancer-1-0123456789abcdef")
)
LOCAL = proxy_protocol.encode(Header(Command.LOCAL))
BALANCERS = ip_network("127.0.0.1/32")
ASSOCIATE_AC, P_DATA, RELEASE_RP = 2, 4, 6


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as entries:
        yield entries


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("atria_refused_connections_total", {"reason": reason}) or 0.0


def counted(role: str) -> float:
    labels = {"role": role, "outcome": "accepted"}
    return REGISTRY.get_sample_value("atria_association_outcomes_total", labels) or 0.0


async def is_closed(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


async def test_who_calls_from_elsewhere_is_closed_at_once_counted_and_logged(logs: list[EventDict]) -> None:
    before = refused("stranger")
    async with serving(preface=proxy_protocol.parse, admits=lambda one: one in BALANCERS) as served:
        async with raw(served.port, "127.0.0.2") as (reader, writer):
            assert await is_closed(reader)
            source = "{}:{}".format(*writer.get_extra_info("sockname"))
        assert refused("stranger") == before + 1
        [line] = [entry for entry in logs if entry["event"] == "connection.refused"]
        assert (line["reason"], line["source"], line["log_level"]) == ("stranger", source, "warning")
        async with raw(served.port) as (reader, writer):
            writer.write(PROXY + REQUEST.encode())
            assert (await read_pdu(reader))[0] == ASSOCIATE_AC


@pytest.mark.parametrize(
    "data",
    [
        REQUEST.encode(),
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 104\r\n",
        b"\x16\x03\x01\x02\x00",
        PROXY[:12] + b"\x31" + PROXY[13:],
    ],
)
async def test_what_does_not_begin_with_a_header_is_closed_at_once_counted_and_logged(
    data: bytes, logs: list[EventDict]
) -> None:
    before = refused("no_preface")
    async with serving(preface=proxy_protocol.parse) as served:
        async with raw(served.port) as (reader, writer):
            writer.write(data)
            assert await is_closed(reader)
        assert not served.associations
    assert refused("no_preface") == before + 1
    [line] = [entry for entry in logs if entry["event"] == "connection.refused"]
    assert line["source"].startswith("127.0.0.1:")


@pytest.mark.parametrize("size", [1, 2, 13, 16, len(PROXY), len(PROXY) + 1, 10_000])
async def test_a_header_is_read_in_pieces_of_any_size(size: int) -> None:
    async with serving(preface=proxy_protocol.parse) as served, raw(served.port) as (reader, writer):
        data = PROXY + REQUEST.encode()
        for begin in range(0, len(data), size):
            writer.write(data[begin : begin + size])
            await asyncio.sleep(0)
        assert (await read_pdu(reader))[0] == ASSOCIATE_AC
        writer.write(message(ECHO))
        assert (await read_pdu(reader))[0] == P_DATA
        [association] = served.associations
        assert (association.source, association.id) == (str(CLIENT), "balancer-1-0123456789abcdef")


@pytest.mark.parametrize("begun", [b"", PROXY[:1], PROXY[:-1]])
async def test_a_header_that_does_not_come_is_not_waited_for_longer_than_artim(begun: bytes) -> None:
    limits = UpperLayerLimits(artim_timeout_s=0.1)
    async with asyncio.timeout(5), serving(preface=proxy_protocol.parse, limits=limits) as served:  # noqa: SIM117
        async with raw(served.port) as (reader, writer):
            writer.write(begun)
            assert await is_closed(reader)


async def test_all_lines_of_an_association_have_the_name_that_the_balancer_gave_it(
    logs: list[EventDict],
) -> None:
    async def handle(association: Association) -> None:
        await association.receive()
        structlog.get_logger().warning("something.deep_inside")
        await asyncio.create_task(_also())
        raise RuntimeError("a fault of ours")

    async def _also() -> None:
        structlog.get_logger().warning("something.beside")

    async with serving(handle, preface=proxy_protocol.parse) as served, raw(served.port) as (reader, writer):
        writer.write(PROXY + REQUEST.encode())
        assert (await read_pdu(reader))[0] == ASSOCIATE_AC
        writer.write(message(ECHO))
        await reader.read()
    assert {entry["association"] for entry in logs} == {"balancer-1-0123456789abcdef"}
    events = {str(entry["event"]) for entry in logs}
    assert {
        "association.accepted",
        "something.deep_inside",
        "something.beside",
        "association.ended",
    } <= events


async def test_a_probe_is_answered_and_told_from_a_modality(logs: list[EventDict]) -> None:
    before = counted("acceptor")
    policy = AcceptancePolicy("ATRIA", max_associations=1)
    async with serving(preface=proxy_protocol.parse, policy=policy) as served:
        assert served.acceptor is not None
        async with raw(served.port) as (reader, writer):
            writer.write(PROXY + REQUEST.encode())
            assert (await read_pdu(reader))[0] == ASSOCIATE_AC
            async with raw(served.port) as (probe_reader, probe_writer):
                probe_writer.write(LOCAL + REQUEST.encode())
                assert (await read_pdu(probe_reader))[0] == ASSOCIATE_AC, "also at the ceiling"
                probe_writer.write(message(ECHO))
                assert (await read_pdu(probe_reader))[0] == P_DATA
                assert [one.source for one in served.acceptor.running] == [str(CLIENT)]
                assert served.associations[1].source == "{}:{}".format(
                    *probe_writer.get_extra_info("sockname")
                )
            await served.endings.get()
    assert counted("acceptor") == before + 1
    lines = [entry for entry in logs if entry["source"] != str(CLIENT)]
    assert {(entry["event"], entry["log_level"]) for entry in lines} == {
        ("association.accepted", "debug"),
        ("association.ended", "debug"),
    }


async def test_a_flood_of_strangers_does_not_flood_the_log(logs: list[EventDict]) -> None:
    before = refused("stranger")
    async with serving(admits=lambda _: False) as served:
        for _ in range(3 * LOGGED_AT_ONCE):
            async with raw(served.port) as (reader, _):
                assert await is_closed(reader)
    assert refused("stranger") == before + 3 * LOGGED_AT_ONCE
    assert len(logs) == LOGGED_AT_ONCE
