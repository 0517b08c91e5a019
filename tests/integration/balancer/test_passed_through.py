from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster import proxy_protocol
from cluster.coordination.registry import Address, Member
from cluster.dicom.acceptor import Acceptor
from cluster.dicom.association import Association
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.settings import Tls
from cluster.tls import ServerTls
from cluster.tls_protocol import TlsProtocol
from tests.certificates import Authority
from tests.integration.balancer.test_tls import Blocking, call_with_dcmtk, tls_port
from tests.integration.balancer.world import FakeWorker, World, associate_rq, world
from tests.waiting import until

MIB = 1024 * 1024


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@dataclass
class TlsWorker(FakeWorker):
    """Atria's own acceptor, that ends TLS, and answers whatever is asked with success."""

    tls: Tls = field(default_factory=Tls)
    sources: list[str] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = ServerTls(self.tls)
        self.acceptor = Acceptor(
            AcceptancePolicy(ae_title="ATRIA", check_called_ae_title=False),
            UpperLayerLimits(),
            self._answer,
            preface=proxy_protocol.parse,
            upgrade=lambda transport, above: TlsProtocol(server.context(), transport, above),
        )
        self.address = Address(*await self.acceptor.listen("127.0.0.1", 0))
        try:
            yield
        finally:
            await self.acceptor.drain(0)

    def member(self) -> Member:
        return Member("worker", self.name, Address("127.0.0.1", 1), 1, "0", datetime.now(UTC), self.address)

    async def _answer(self, association: Association) -> None:
        self.sources.append(association.source)
        while True:
            message = await association.receive()
            command = message.command
            if message.data_set is not None:
                parts: list[bytes] = []
                while read := await message.data_set.read(MIB):
                    parts += map(bytes, read)
                self.received.append(b"".join(parts))
            await association.send(
                message.context.context_id,
                CommandSet(
                    command_field=CommandField(command.command_field | 0x8000),
                    message_id_being_responded_to=command.message_id,
                    affected_sop_class_uid=command.affected_sop_class_uid,
                    affected_sop_instance_uid=command.affected_sop_instance_uid,
                    status=0,
                ),
            )


@asynccontextmanager
async def passed_through(authority: Authority, **tables: Any) -> AsyncIterator[tuple[World, TlsWorker]]:
    pair = authority.pair("pacs")
    tls = {
        "mode": "passed_through",
        "port": 0,
        "certificate_file": pair.certificate_file,
        "key_file": pair.key_file,
    }
    worker = TlsWorker(_no_script, tls=Tls.model_validate(tls))
    async with worker.listening(), world(worker, tls=tls, **tables) as here:
        yield here, worker


async def _no_script(_: object) -> None:
    raise AssertionError


async def test_dcmtk_stores_and_the_worker_ends_its_tls(authority: Authority, tmp_path: Path) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data_set = Dataset()
    data_set.SOPClassUID = SecondaryCaptureImageStorage
    data_set.SOPInstanceUID = generate_uid()
    data_set.PixelData = os.urandom(3 * MIB)
    data_set["PixelData"].VR = "OB"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = tmp_path / "image.dcm"
    data_set.save_as(file, enforce_file_format=True)
    async with passed_through(authority) as (here, worker):
        assert here.door.tls_address is not None
        options = ("+tla", "+cf", str(authority.file))
        status, said = await call_with_dcmtk("storescu", here.door.tls_address, *options, files=[file])
        assert status == 0, said
        assert await here.outcomes() in ({"closed": 1}, {"client_left": 1})
        assert worker.sources[0].startswith("127.0.0.1:")
        (received,) = worker.received
        assert data_set.PixelData in received


async def test_a_plain_association_still_finds_the_worker(authority: Authority) -> None:
    async with passed_through(authority) as (here, _):
        status, said = await call_with_dcmtk("echoscu", here.address)
        assert status == 0, said
        assert await here.outcomes() == {"released": 1}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_dicom_over_either_version_of_tls(authority: Authority, version: ssl.TLSVersion) -> None:
    async with passed_through(authority) as (here, _):
        with Blocking(tls_port(here), authority) as caller:
            caller.tls.context.maximum_version = version
            await caller.do(caller.tls.do_handshake)
            await caller.do(caller.tls.sendall, associate_rq())
            answer = await caller.do(caller.tls.recv, 6)
            assert answer[0] in (2, 3)


def in_records_of(size: int, record: bytes) -> bytes:
    """Return what one record holds in shorter ones, each with the header that it needs (RFC 8446 5.1)."""
    kind, held = record[:3], record[5:]
    pieces = [held[start : start + size] for start in range(0, len(held), size)]
    return b"".join(kind + len(piece).to_bytes(2, "big") + piece for piece in pieces)


async def test_a_caller_may_say_hello_in_several_records(authority: Authority) -> None:
    """As those do that send short fragments, or offer so much that one is not enough."""
    async with passed_through(authority) as (here, _), asyncio.timeout(20):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=authority.file)
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        reader, writer = await asyncio.open_connection(*tls_port(here))
        writer.write(in_records_of(50, outgoing.read()))
        shaken = False
        while not shaken:
            answer = await reader.read(MIB)
            assert answer, "closed instead of shaking hands"
            incoming.write(answer)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                shaken = True
        writer.close()
        await writer.wait_closed()
        assert await here.outcomes() in ({"closed": 1}, {"client_left": 1})


async def test_a_worker_that_drains_still_serves_those_whose_tls_has_begun(authority: Authority) -> None:
    async with passed_through(authority) as (here, worker):
        with Blocking(tls_port(here), authority) as caller, Blocking(tls_port(here), authority) as silent:
            await caller.do(caller.tls.do_handshake)
            await silent.do(silent.tls.do_handshake)
            draining = asyncio.create_task(worker.acceptor.drain(10, 0.2))
            await asyncio.sleep(0)
            await caller.do(caller.tls.sendall, associate_rq())
            assert (await caller.do(caller.tls.recv, 6))[0] in (2, 3)
            assert not await silent.do(silent.raw_recv)
        await draining


async def test_silent_and_plain_callers_cost_no_worker(authority: Authority) -> None:
    async with passed_through(authority, upper_layer={"artim_timeout_s": 0.3}) as (here, worker):
        for words in (b"", b"\x16\x03\x01", associate_rq()):
            reader, writer = await asyncio.open_connection(*tls_port(here))
            writer.write(words)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
            writer.close()
        assert await here.outcomes(3) == {"probe": 1, "no_tls": 2}
        assert worker.sources == []


async def test_without_a_worker_the_connection_is_closed(authority: Authority) -> None:
    pair = authority.pair("pacs")
    tls = {
        "mode": "passed_through",
        "port": 0,
        "certificate_file": pair.certificate_file,
        "key_file": pair.key_file,
    }
    async with world(tls=tls) as here:
        with Blocking(tls_port(here), authority) as caller, pytest.raises((ssl.SSLError, OSError)):
            await caller.do(caller.tls.do_handshake)
        assert await here.outcomes() == {"no_worker": 1}


async def test_a_handshake_that_fails_at_the_worker_ends_there(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with passed_through(authority) as (here, worker):
        with (
            Blocking(tls_port(here), Authority(tmp_path / "other")) as caller,
            pytest.raises(ssl.SSLError),
        ):
            await caller.do(caller.tls.do_handshake)
        await until(lambda: not here.door.status()["connections"])
        assert worker.sources == []


async def test_draining_breaks_what_is_passed_through(authority: Authority) -> None:
    async with passed_through(authority) as (here, _):
        with Blocking(tls_port(here), authority) as caller:
            await caller.do(caller.tls.do_handshake)
            await here.door.drain(0.1)
            with pytest.raises(ConnectionResetError):
                await caller.do(caller.raw_recv)
        assert await here.outcomes() == {"drained": 1}
