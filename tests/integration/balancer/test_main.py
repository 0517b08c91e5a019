from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from balancer.main import run
from cluster.coordination.folder import FolderRegistry
from cluster.coordination.registry import Address, Member
from cluster.settings import Settings
from cluster.settings.live import LiveSettings
from tests.certificates import Authority
from tests.integration.balancer.world import A_ASSOCIATE_AC, Caller, FakeWorker, associate_rq, echo
from tests.waiting import soon


def on_free_ports(**tables: object) -> Settings:
    return Settings.model_validate({"dicom": {"port": 0}, "http": {"port": 0}, **tables})


@asynccontextmanager
async def balancer(registry: FolderRegistry, settings: Settings) -> AsyncIterator[Member]:
    stop = asyncio.Event()
    async with soon("the balancer is announced, and ends"), asyncio.TaskGroup() as tasks:
        tasks.create_task(run(LiveSettings(settings), registry, stop, name="balancer-1"))
        async for members in registry.watch():
            if found := [member for member in members if member.kind == "balancer"]:
                break
        try:
            yield found[0]
        finally:
            stop.set()


async def get(address: Address, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def test_it_announces_itself_serves_and_withdraws(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    worker = FakeWorker(echo)
    async with (
        worker.listening(),
        await registry.announce(worker.member()),
        balancer(registry, on_free_ports()) as member,
    ):
        assert (member.name, member.kind) == ("balancer-1", "balancer")
        assert member.dicom is not None
        assert await get(member.http, "/readyz") == (200, "ready\n")
        reader, writer = await asyncio.open_connection(member.dicom.host, member.dicom.port)
        caller = Caller(reader, writer)
        assert await caller.associate() == A_ASSOCIATE_AC
        _, body = await get(member.http, "/status")
        status = json.loads(body)
        assert (status["associations"], status["tls_address"]) == (1, None)
        (seen,) = status["workers"]
        assert seen.items() >= {
            ("name", "worker-1"),
            ("dicom", str(worker.address)),
            ("associations", 1),
            ("failing", False),
        }
        _, metrics = await get(member.http, "/metrics")
        assert 'atria_balancer_associations{worker="worker-1"} 1.0' in metrics
        await caller.release()
        writer.close()
        await writer.wait_closed()
    assert await registry.members("balancer") == []


async def test_it_tells_where_it_speaks_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = Authority(tmp_path).pair("pacs")
    files = {"certificate_file": pair.certificate_file, "key_file": pair.key_file}
    settings = on_free_ports(tls={"mode": "ended", "port": 0, **files})
    async with balancer(FolderRegistry(tmp_path / "members"), settings) as member:
        where = json.loads((await get(member.http, "/status"))[1])["tls"]
    assert where.startswith("127.0.0.1:")
    assert where not in ("127.0.0.1:0", str(member.dicom))
    assert f"tls={where}" in capsys.readouterr().out


async def test_it_is_not_ready_without_a_worker_and_ready_with_one(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    worker = FakeWorker(echo)
    async with worker.listening(), balancer(registry, on_free_ports()) as member:
        assert await get(member.http, "/readyz") == (503, "knows no worker\n")
        async with await registry.announce(worker.member()):
            while (await get(member.http, "/readyz"))[0] != 200:  # noqa: ASYNC110  asked over HTTP
                await asyncio.sleep(0.02)


async def test_stopping_waits_for_a_running_association(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    worker = FakeWorker(echo)
    async with worker.listening(), await registry.announce(worker.member()):
        async with balancer(registry, on_free_ports()) as member:
            assert member.dicom is not None
            reader, writer = await asyncio.open_connection(member.dicom.host, member.dicom.port)
            writer.write(associate_rq())
            caller = Caller(reader, writer)
            assert await caller.read_pdu() == A_ASSOCIATE_AC

            async def release_later() -> None:
                await asyncio.sleep(0.2)
                await caller.release()
                writer.close()
                await writer.wait_closed()

            releasing = asyncio.create_task(release_later())
        assert releasing.done()
        await releasing


@pytest.mark.parametrize("taken", ["dicom", "http"])
async def test_a_port_in_use_is_an_os_error_and_nothing_is_left_open(taken: str, tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    async with balancer(registry, on_free_ports()) as member:
        assert member.dicom is not None
        port = member.dicom.port if taken == "dicom" else member.http.port
        settings = on_free_ports(**{taken: {"port": port}})
        with pytest.raises(OSError, match="in use"):
            await run(LiveSettings(settings), registry, asyncio.Event(), name="balancer-2")
