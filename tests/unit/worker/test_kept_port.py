from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from storage_node.kept_port import KeptPort


class Listener:
    """What of an acceptor matters here."""

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        self.server = await asyncio.start_server(lambda *_: None, host, port)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return host, self.port

    async def close(self) -> None:
        self.server.close()
        await self.server.wait_closed()


async def port_of_a_start(file: Path) -> int:
    listener = Listener()
    _, port = await KeptPort(file).listen(listener, "127.0.0.1")  # type: ignore[arg-type]
    await listener.close()
    assert port == listener.port
    return port


async def test_a_worker_has_the_same_port_after_each_start(tmp_path: Path) -> None:
    file = tmp_path / "worker-1" / "port"
    ports = {await port_of_a_start(file) for _ in range(3)}
    assert len(ports) == 1


async def test_a_port_that_somebody_else_has_is_given_up_for_another_that_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "port"
    former = await port_of_a_start(file)
    with socket.create_server(("127.0.0.1", former)):
        other = await port_of_a_start(file)
    assert other != former
    assert await port_of_a_start(file) == other


@pytest.mark.parametrize("damage", ["", "nonsense", "99999", "-1"])
async def test_what_is_no_port_is_not_tried(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "port"
    file.write_text(damage)
    assert await port_of_a_start(file) > 0


async def test_an_address_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="address"):
        await KeptPort(tmp_path / "port").listen(Listener(), "203.0.113.1")  # type: ignore[arg-type]
