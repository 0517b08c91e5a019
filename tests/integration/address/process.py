"""A process that stands for a balancer: it does to the address what it is told, and serves there.

Whoever connects to the address is told this host's name, and then gets back what it sends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import uvloop

from balancer.address import AddressFault, KernelAddress, KernelDetour, kernel_address, kernel_detour
from cluster.proxy_protocol import Endpoint
from cluster.settings import Settings
from tests.integration.address.network import INTERFACE, PORT

_IP_FREEBIND = 15
_IPV6_FREEBIND = 78


class Serving:
    """The echo server, and the flows that it has."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.flows: set[tuple[str, int]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flow = writer.get_extra_info("peername")[:2]
        self.flows.add(flow)
        writer.write(self._name.encode() + b"\n")
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.flows.discard(flow)
            writer.close()


def _listener(service: str) -> socket.socket:
    if ":" in service:
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((service, PORT))
    listener.listen(128)
    return listener


def _acts(
    address: KernelAddress, detour: KernelDetour, serving: Serving
) -> dict[str, Callable[..., Awaitable[object]]]:
    async def hold(for_s: float) -> float:
        until = time.monotonic() + for_s
        await address.hold(until)
        return until

    async def is_held() -> bool:
        return address.is_held

    async def announce() -> None:
        address.announce()

    async def begin(towards: str) -> None:
        own = [Endpoint(ip_address(host), port) for host, port in serving.flows]
        await detour.begin(ip_address(towards), own)

    async def flows() -> int:
        return len(serving.flows)

    return {
        "hold": hold,
        "drop": address.drop,
        "is_held": is_held,
        "announce": announce,
        "park": address.park,
        "unpark": address.unpark,
        "begin": begin,
        "end": detour.end,
        "flows": flows,
    }


async def main(service: str, name: str) -> None:
    settings = Settings.model_validate(
        {
            "service": {"address": service, "interface": INTERFACE, "announce_interval_s": 0.5},
            "dicom": {"port": PORT},
        }
    )
    serving = Serving(name)
    server = await asyncio.start_server(serving.serve, sock=_listener(service))
    acts: dict[str, Callable[..., Awaitable[object]]] = {}
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := await commands.readline():
        do, *arguments = json.loads(line)
        answer, fault = None, None
        try:
            if do == "start":
                address, detour = kernel_address(settings), kernel_detour(settings)
                assert isinstance(address, KernelAddress)
                assert isinstance(detour, KernelDetour)
                acts = _acts(address, detour, serving)
            else:
                answer = await acts[do](*arguments)
        except AddressFault as error:
            fault = str(error)
        print(json.dumps([answer, fault]), flush=True)
    server.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
