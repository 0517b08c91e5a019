from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from balancer.main import run
from cluster.certificates import CertificatesUnusable
from cluster.coordination.registry import Address
from cluster.settings import Settings
from cluster.settings.live import LiveSettings
from tests import tools
from tests.certificates import Authority, Pair
from tests.integration.balancer.world import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    TRANSIENT,
    Caller,
    FakeWorker,
    LateReader,
    Visit,
    World,
    associate_rq,
    echo,
    pdu,
    settled,
    world,
)
from tests.registry import registry_in_memory
from tests.waiting import soon, until

MIB = 1024 * 1024
T = TypeVar("T")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def ended_here(pair: Pair, **more: object) -> dict[str, object]:
    files = {"certificate_file": pair.certificate_file, "key_file": pair.key_file}
    return {"mode": "ended", "port": 0, **files, **more}


@asynccontextmanager
async def calling(here: World, context: ssl.SSLContext) -> AsyncIterator[Caller]:
    where = here.door.tls_address
    assert where is not None
    reader, writer = await asyncio.open_connection(
        where.host, where.port, ssl=context, server_hostname="127.0.0.1"
    )
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


class Blocking:
    """A caller whose TLS is that of blocking sockets, in a thread: with no buffers but the kernel's."""

    def __init__(self, where: tuple[str, int], authority: Authority) -> None:
        self._where = where
        self._context = authority.client_context()

    def __enter__(self) -> Blocking:
        self._raw = socket.create_connection(self._where)
        self.tls = self._context.wrap_socket(
            self._raw,
            server_hostname="127.0.0.1",
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.tls.close()

    async def do(self, what: Callable[..., T], *arguments: object) -> T:
        """Do something that blocks."""
        return await asyncio.to_thread(what, *arguments)

    def associate(self) -> None:
        self.tls.do_handshake()
        self.tls.sendall(associate_rq())
        assert self.tls.recv(len(A_ASSOCIATE_AC)) == A_ASSOCIATE_AC

    def read(self, count: int) -> bytearray:
        data = bytearray()
        while len(data) < count and (more := self.tls.recv(MIB)):
            data += more
        return data

    def raw_recv(self) -> bytes:
        """Read what the socket has, without TLS: which takes a reset for an end."""
        return os.read(self.tls.fileno(), 1)

    def read_all(self) -> bytearray:
        """Read until the peer's close_notify: an end without one is an error."""
        data = bytearray()
        while more := self.tls.recv(MIB):
            data += more
        return data


def tls_port(here: World) -> tuple[str, int]:
    where = here.door.tls_address
    assert where is not None
    return where.host, where.port


async def test_an_association_over_tls_is_like_any_other(authority: Authority) -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        assert here.door.status()["tls_address"] == str(here.door.tls_address)
        async with calling(here, authority.client_context()) as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
            for size in (100, 3, 70_000, 3 * MIB):
                data = pdu(4, random.Random(size).randbytes(size))
                caller.writer.write(data)
                assert await caller.read_pdu() == data
            await caller.release()
            source = caller.writer.get_extra_info("sockname")
        assert await here.outcomes() == {"released": 1}
        (visit,) = worker.visits
        assert visit.header.source == f"127.0.0.1:{source[1]}"
        assert visit.header.tls is not None
        assert (visit.header.tls.version, visit.header.tls.common_name) == ("TLSv1.3", None)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_worker_is_told_whose_certificate_it_was(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    worker = FakeWorker(echo)
    tls = ended_here(authority.pair("pacs"), client_ca_file=authority.file)
    context = authority.client_context(authority.pair("ct-scanner"))
    context.maximum_version = version
    async with worker.listening(), world(worker, tls=tls) as here:
        async with calling(here, context) as caller:
            assert await caller.associate() == A_ASSOCIATE_AC
        told = worker.visits[0].header.tls
        assert told is not None
        assert told.common_name == "ct-scanner"


async def test_a_caller_without_a_certificate_that_is_asked_for_gets_no_further(
    authority: Authority, tmp_path: Path
) -> None:
    worker = FakeWorker(echo)
    tls = ended_here(authority.pair("pacs"), client_ca_file=authority.file)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").pair("stranger")
    async with worker.listening(), world(worker, tls=tls) as here:
        for pair in (None, stranger):
            with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                async with calling(here, authority.client_context(pair)) as caller:
                    await caller.associate()
        assert await here.outcomes(2) == {"no_tls": 2}
        assert worker.visits == []


async def test_old_versions_of_tls_are_refused(authority: Authority) -> None:
    context = authority.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with world(tls=ended_here(authority.pair("pacs"))) as here:
        with pytest.raises(ssl.SSLError):
            async with calling(here, context):
                pass
        assert await here.outcomes() == {"no_tls": 1}


async def test_refusals_are_dicom(authority: Authority) -> None:
    async with world(tls=ended_here(authority.pair("pacs"))) as here:
        async with calling(here, authority.client_context()) as caller:
            assert await caller.associate() == TRANSIENT
            assert await caller.reader.read() == b""
        assert await here.outcomes() == {"no_worker": 1}


async def test_a_plain_caller_on_the_port_for_tls_is_counted_and_told_of(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tls=ended_here(authority.pair("pacs"))) as here:
        reader, writer = await asyncio.open_connection(*tls_port(here))
        writer.write(associate_rq())
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        assert await here.outcomes() == {"no_tls": 1}
    assert "no TLS, on a port for it" in capsys.readouterr().out


async def test_a_handshake_that_is_not_finished_is_ended_in_time(authority: Authority) -> None:
    tls = ended_here(authority.pair("pacs"))
    async with world(tls=tls, upper_layer={"artim_timeout_s": 0.2}) as here:
        reader, writer = await asyncio.open_connection(*tls_port(here))
        writer.write(b"\x16\x03\x01\x02\x00")
        assert await reader.read() == b""
        writer.close()
        assert await here.outcomes() == {"no_tls": 1}


async def test_a_new_certificate_is_shown_to_new_callers_and_old_ones_go_on(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.tls.LOOK_INTERVAL_S", 0.0)
    pair, other = authority.pair("before"), authority.pair("after")
    worker = FakeWorker(echo)
    async with (
        worker.listening(),
        world(worker, tls=ended_here(pair)) as here,
        calling(here, authority.client_context()) as caller,
    ):
        await caller.associate()
        shutil.copy(other.certificate_file, pair.certificate_file)
        shutil.copy(other.key_file, pair.key_file)
        async with calling(here, authority.client_context()) as late:
            shown = late.writer.get_extra_info("peercert")
            assert shown["subject"] == ((("commonName", "after"),),)
        await caller.release()


async def test_a_caller_that_closes_without_a_word_ends_the_workers_connection(authority: Authority) -> None:
    ended = asyncio.Event()

    async def wait_for_the_end(visit: Visit) -> None:
        await visit.accept()
        await visit.reader.read()
        ended.set()

    worker = FakeWorker(wait_for_the_end)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        for way_to_go in (Caller.reset, lambda caller: caller.writer.close()):
            ended.clear()
            async with calling(here, authority.client_context()) as caller:
                await caller.associate()
                way_to_go(caller)
                async with soon("the worker's connection has ended"):
                    await ended.wait()
        assert await here.outcomes(2) == {"client_left": 2}


@pytest.mark.parametrize("half_closed", [False, True])
async def test_the_last_words_arrive_before_the_farewell(authority: Authority, *, half_closed: bool) -> None:
    """The worker answers and closes; a caller that takes its time gets every byte, then a close_notify."""
    sent = b"".join(pdu(4, random.Random(n).randbytes(n)) for n in (12 * MIB, 70_000, 5))

    async def send(visit: Visit) -> None:
        await visit.accept()
        await visit.read_pdu()
        visit.writer.write(sent + A_RELEASE_RP)

    worker = FakeWorker(send)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        with Blocking(tls_port(here), authority) as caller:
            await caller.do(caller.associate)
            await caller.do(caller.tls.sendall, A_RELEASE_RQ)
            if half_closed:
                socket.socket.shutdown(caller.tls, socket.SHUT_WR)
            await asyncio.sleep(0.2)
            assert await caller.do(caller.read_all) == sent + A_RELEASE_RP
        assert await here.outcomes() == {"released": 1}


async def test_a_worker_that_dies_between_pdus_is_followed_by_an_abort(authority: Authority) -> None:
    async def die(visit: Visit) -> None:
        await visit.accept()
        await visit.read_pdu()
        visit.writer.transport.abort()

    worker = FakeWorker(die)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        async with calling(here, authority.client_context()) as caller:
            await caller.associate()
            caller.writer.write(pdu(4, b"?"))
            assert (await caller.read_pdu())[0] == A_ABORT[0]
            assert await caller.reader.read() == b""
        assert await here.outcomes() == {"worker_lost": 1}


async def test_a_worker_that_dies_within_a_pdu_breaks_the_connection(authority: Authority) -> None:
    async def die(visit: Visit) -> None:
        await visit.accept()
        await visit.read_pdu()
        visit.writer.write(pdu(4, bytes(1000))[:500])
        await visit.writer.drain()

    worker = FakeWorker(die)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        async with calling(here, authority.client_context()) as caller:
            await caller.associate()
            caller.writer.write(pdu(4, b"?"))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
                await caller.read_pdu()
        assert await here.outcomes() == {"worker_lost": 1}


async def test_a_worker_that_does_not_read_holds_back_the_caller(authority: Authority) -> None:
    late = LateReader()
    worker = FakeWorker(late)
    total = 48 * MIB
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        with Blocking(tls_port(here), authority) as caller:
            await caller.do(caller.associate)
            sending = asyncio.create_task(caller.do(caller.tls.sendall, bytes(total)))
            await asyncio.sleep(0.5)
            used = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - used < 0.1
            assert not sending.done()
            late.go_on.set()
            await sending
        await here.outcomes()
    assert late.received_bytes == total


async def test_a_caller_that_does_not_read_holds_back_the_worker_and_loses_nothing(
    authority: Authority,
) -> None:
    sent = b"".join(pdu(4, random.Random(n).randbytes(n)) for n in (300, 2 * MIB, 70_000, 8 * MIB) * 4)
    waited = asyncio.Event()

    async def send(visit: Visit) -> None:
        await visit.accept()
        visit.writer.write(sent)
        if await settled(visit.writer):
            waited.set()
        await visit.writer.drain()
        visit.writer.write(A_RELEASE_RP)
        await visit.reader.read()

    worker = FakeWorker(send)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        with Blocking(tls_port(here), authority) as caller:
            await caller.do(caller.associate)
            await waited.wait()
            expected = sent + A_RELEASE_RP
            received = await caller.do(caller.read, len(expected))
        await here.outcomes()
    assert received == expected


async def test_what_was_tampered_with_ends_the_association(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        async with calling(here, authority.client_context()) as caller:
            await caller.associate()
            raw = caller.writer.get_extra_info("socket")
            os.write(raw.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
                await caller.read_pdu()
        assert await here.outcomes() == {"client_left": 1}
    assert "tls.broken" in capsys.readouterr().out


async def test_what_is_wrong_right_behind_the_handshake_is_the_callers_fault(authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    async with world(tls=ended_here(authority.pair("pacs"))) as here:
        reader, writer = await asyncio.open_connection(*tls_port(here))
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        writer.write(outgoing.read() + b"\x17\x03\x03\0\x20" + bytes(32))
        assert await here.outcomes() == {"probe": 1}
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_draining_aborts_what_runs_over_tls_at_a_boundary(authority: Authority) -> None:
    worker = FakeWorker(echo)
    async with worker.listening(), world(worker, tls=ended_here(authority.pair("pacs"))) as here:
        async with calling(here, authority.client_context()) as caller:
            await caller.associate()
            draining = asyncio.create_task(here.door.drain(0.2))
            assert (await caller.read_pdu())[0] == A_ABORT[0]
            assert await caller.reader.read() == b""
            caller.writer.close()
            await draining
        assert await here.outcomes() == {"drained": 1}


async def test_nothing_is_left_behind(authority: Authority) -> None:
    worker = FakeWorker(echo)
    tls = ended_here(authority.pair("pacs"))
    async with worker.listening(), world(worker, tls=tls, upper_layer={"artim_timeout_s": 0.5}) as here:
        left: list[tuple[int, int]] = []
        for _ in range(5):
            async with calling(here, authority.client_context()) as caller:
                await caller.associate()
                data = pdu(4, bytes(200_000))
                caller.writer.write(data)
                assert await caller.read_pdu() == data
                await caller.release()
            async with calling(here, authority.client_context()) as caller:
                await caller.associate()
                caller.reset()
            with socket.create_connection(tls_port(here)) as silent:
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                silent.send(b"\x16")
            await until(lambda: not here.door.status()["connections"] and not worker.tasks)
            left.append(descriptors_and_tasks())
        # What was just closed is gone with the next turn of the loop: that may be counted in any round.
        descriptors, tasks = left[0]
        await until(
            lambda: descriptors_and_tasks()[0] <= descriptors and descriptors_and_tasks()[1] <= tasks,
            seen=lambda: (left, descriptors_and_tasks()),
        )


def descriptors_and_tasks() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


async def test_a_balancer_whose_key_does_not_fit_does_not_start(authority: Authority) -> None:
    one, other = authority.pair("one"), authority.pair("other")
    settings = Settings.model_validate(
        {
            "dicom": {"port": 0},
            "http": {"port": 0},
            "tls": ended_here(Pair(one.certificate_file, other.key_file)),
        }
    )
    with pytest.raises(CertificatesUnusable, match="does not fit"):
        await run(LiveSettings(settings), registry_in_memory(), asyncio.Event())


async def call_with_dcmtk(
    program: str, where: Address, *arguments: str, files: Sequence[Path] = ()
) -> tuple[int, str]:
    found = tools.dcmtk(program)
    if found is None:
        pytest.skip("needs DCMTK")
    process = await asyncio.create_subprocess_exec(
        found,
        *arguments,
        where.host,
        str(where.port),
        *files,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_dcmtk_associates_and_is_rejected_over_tls(authority: Authority) -> None:
    pair, own = authority.pair("pacs"), authority.pair("dcmtk")
    tls = ended_here(pair, client_ca_file=authority.file)
    async with world(tls=tls) as here:
        assert here.door.tls_address is not None
        status, said = await call_with_dcmtk(
            "echoscu",
            here.door.tls_address,
            "+tls",
            str(own.key_file),
            str(own.certificate_file),
            "+cf",
            str(authority.file),
        )
        assert status != 0
        assert "Rejected Transient" in said
        assert await here.outcomes() == {"no_worker": 1}
