from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address

import pytest

from balancer.address import AddressFault, KernelDetour, kernel_address, kernel_detour, netlink, nft
from balancer.address.detour import Front, rules
from balancer.address.netlink import Route
from cluster.proxy_protocol import Endpoint
from cluster.settings import Settings

FRONT = Front(ip_address("192.0.2.100"), "eth0", (104, 2762), remembered_s=900)


def test_flows_from_an_earlier_term_are_known_at_every_port() -> None:
    own = [Endpoint(ip_address("192.0.2.7"), 50000), Endpoint(ip_address("2001:db8::7"), 50001)]
    script = rules(FRONT, ip_address("192.0.2.2"), "eth1", own)
    assert "began_here { 192.0.2.7 . 50000 . 104, 192.0.2.7 . 50000 . 2762 }" in script
    assert "50001" not in script


@pytest.mark.parametrize("mode", ["off", "passed_through"])
async def test_idle_associations_are_remembered_at_all_ports_that_are_listened_at(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    scripts: list[str] = []
    monkeypatch.setattr(nft, "run", scripts.append)
    monkeypatch.setattr(netlink, "route", lambda towards: Route("eth0", is_on_link=True, is_local=False))
    tls = {"mode": mode, "port": 2762, "certificate_file": "c.pem", "key_file": "k.pem"}
    settings = Settings.model_validate(
        {
            "service": {"address": "192.0.2.100", "interface": "eth0"},
            "dicom": {"port": 104},
            "tls": tls,
            "upper_layer": {"idle_timeout_s": 7000},
        }
    )
    detour = kernel_detour(settings)
    await detour.begin(ip_address("192.0.2.2"), [])
    assert "timeout 7300s" in scripts[-1]
    assert ("tcp dport { 104, 2762 }" if mode != "off" else "tcp dport { 104 }") in scripts[-1]
    await detour.end()
    assert scripts[-1] == nft.removal("netdev atria_detour")
    ended = len(scripts)
    await detour.end()
    assert len(scripts) == ended


async def test_without_nft_no_detour_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "installed", lambda: None)
    monkeypatch.setattr(netlink, "route", lambda towards: Route("eth0", is_on_link=True, is_local=False))
    with pytest.raises(AddressFault, match="nft is not there: install nftables"):
        await KernelDetour(FRONT).begin(ip_address("192.0.2.2"), [])


async def test_a_detour_whose_beginning_nobody_waits_for_is_ended_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    scripts: list[str] = []

    def run(script: str) -> None:
        begun.set()
        assert go_on.wait(5)
        scripts.append(script)

    monkeypatch.setattr(nft, "run", run)
    monkeypatch.setattr(netlink, "route", lambda towards: Route("eth0", is_on_link=True, is_local=False))
    detour = KernelDetour(FRONT)
    beginning = asyncio.create_task(detour.begin(ip_address("192.0.2.2"), []))
    assert await asyncio.to_thread(begun.wait, 5)
    beginning.cancel()
    await asyncio.wait([beginning])
    ending = asyncio.create_task(detour.end())
    await asyncio.sleep(0)
    go_on.set()
    await ending
    assert scripts[-1] == nft.removal("netdev atria_detour")
    assert len(scripts) == 2


async def test_a_detour_that_begins_while_a_former_one_ends_is_ended_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripts: list[str] = []
    monkeypatch.setattr(nft, "run", scripts.append)
    monkeypatch.setattr(netlink, "route", lambda towards: Route("eth0", is_on_link=True, is_local=False))
    detour = KernelDetour(FRONT)
    await detour.begin(ip_address("192.0.2.2"), [])
    ending = asyncio.create_task(detour.end())
    beginning = asyncio.create_task(detour.begin(ip_address("192.0.2.3"), []))
    await asyncio.gather(ending, beginning)
    assert "fwd ip to 192.0.2.3" in scripts[-1]
    await detour.end()
    assert scripts[-1] == nft.removal("netdev atria_detour")


async def test_without_a_service_address_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(nft, "run", touched)
    monkeypatch.setattr(netlink, "add_address", touched)
    monkeypatch.setattr(netlink, "remove_address", touched)
    address, detour = kernel_address(Settings()), kernel_detour(Settings())
    await detour.begin(ip_address("192.0.2.2"), [])
    await address.hold(1e9)
    address.announce()
    await address.park()
    await address.unpark()
    await address.drop()
    await detour.end()
