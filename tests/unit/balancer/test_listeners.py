from __future__ import annotations

import ipaddress
import socket

import pytest

from balancer.listeners import open_listeners, own_addresses, source_towards
from balancer.sockets import connect
from cluster.coordination.registry import Address

ip = ipaddress.ip_address


@pytest.mark.parametrize(
    ("peer", "own", "source"),
    [
        ("10.0.0.9", ["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.9", ["2001:db8::1", "10.0.0.1"], "10.0.0.1"),
        ("2001:db8::9", ["10.0.0.1"], None),
        ("10.0.0.9", ["127.0.0.1"], None),
        ("127.0.0.1", ["10.0.0.1"], None),
        ("127.0.0.1", ["127.0.0.1"], "127.0.0.1"),
        ("10.0.0.9", [], None),
    ],
)
def test_a_worker_is_called_from_an_address_that_reaches_it(
    peer: str, own: list[str], source: str | None
) -> None:
    found = source_towards(ip(peer), [ip(address) for address in own])
    assert found == (None if source is None else ip(source))


async def addresses(host: str, service: str | None) -> tuple[list[str], list[str]]:
    address = None if service is None else ip(service)
    listeners = await open_listeners(Address(host, 0), address, 1)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        bound = sorted(str(listener.getsockname()[0]) for listener in listeners)
        return bound, [str(own) for own in own_addresses(listeners, address)]
    finally:
        for listener in listeners:
            listener.close()


async def test_the_service_address_is_listened_at_and_never_called_from() -> None:
    assert await addresses("127.0.0.1", None) == (["127.0.0.1"], ["127.0.0.1"])
    assert await addresses("127.0.0.1", "192.0.2.1") == (["127.0.0.1", "192.0.2.1"], ["127.0.0.1"])
    assert await addresses("127.0.0.1", "127.0.0.1") == (["127.0.0.1"], [])


async def test_who_listens_everywhere_listens_there_too_and_leaves_the_source_to_the_kernel() -> None:
    assert await addresses("0.0.0.0", "192.0.2.1") == (["0.0.0.0"], [])
    assert await addresses("0.0.0.0", "2001:db8::1") == (["0.0.0.0", "2001:db8::1"], [])


async def test_a_service_port_in_use_is_an_os_error_and_nothing_is_left_open() -> None:
    with socket.create_server(("127.83.1.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await open_listeners(Address("127.0.0.1", port), ip("127.83.1.2"), 1)
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(("host", "source"), [("127.0.0.1", "127.0.0.3"), ("::1", "::1")])
async def test_a_connection_comes_from_the_address_that_is_asked_for(host: str, source: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        connection = await connect(Address(host, server.getsockname()[1]), lambda _: ip(source))
        with connection:
            assert connection.getsockname()[0] == source
