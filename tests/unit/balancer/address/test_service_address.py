from __future__ import annotations

import math
from ipaddress import ip_address

import pytest

from balancer.address import AddressFault, KernelAddress, netlink, nft
from balancer.address.service_address import DROPPED_LATE_S, valid_lft
from cluster.proxy_protocol import IPAddress

ADDRESS = ip_address("192.0.2.100")


class Kernel:
    """Keeps an address for as long as it was told, by a clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.gone_at = -math.inf
        self.stopped_s: list[float] = []
        """How long the process is stopped before each request."""

    def add_address(self, address: IPAddress, interface: str, valid_s: int) -> None:
        self.now += self.stopped_s.pop(0) if self.stopped_s else 0.0
        self.gone_at = self.now + valid_s + DROPPED_LATE_S

    def remove_address(self, address: IPAddress, interface: str) -> None:
        self.gone_at = self.now


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(netlink, "add_address", kernel.add_address)
    monkeypatch.setattr(netlink, "remove_address", kernel.remove_address)
    return kernel


@pytest.fixture
def address(kernel: Kernel) -> KernelAddress:
    return KernelAddress(ADDRESS, "eth0", announce_interval_s=1, clock=lambda: kernel.now)


@pytest.mark.parametrize("left_s", [-1e9, -1.0, 0.0, 0.5, 1.0, 1.6, 1.7, 2.2, 3.0, 3.7, 60.0])
async def test_the_kernel_drops_it_before_the_time_is_up(
    kernel: Kernel, address: KernelAddress, left_s: float
) -> None:
    until = kernel.now + left_s
    await address.hold(until)
    assert kernel.gone_at <= max(until, kernel.now)
    assert address.is_held is (valid_lft(left_s) >= 1)


@pytest.mark.parametrize("stopped_s", [[0.5], [1.3], [2.0], [10.0], [0.9, 0.9], [1.3, 1000.0]])
async def test_a_process_that_was_stopped_before_its_request_drops_it_in_time_or_at_once(
    kernel: Kernel, address: KernelAddress, stopped_s: list[float]
) -> None:
    until = kernel.now + 3
    kernel.stopped_s = stopped_s
    await address.hold(until)
    assert kernel.gone_at <= max(until, kernel.now)


@pytest.mark.parametrize("step_s", [0.05, 0.3, 0.41, 0.9, 1.3])
async def test_to_hold_it_again_for_the_same_time_never_makes_it_go_earlier(
    kernel: Kernel, address: KernelAddress, step_s: float
) -> None:
    until = kernel.now + 3.5
    gone_at = 0.0
    while kernel.now < until:
        await address.hold(until)
        assert gone_at <= kernel.gone_at <= until
        gone_at = kernel.gone_at
        kernel.now += step_s


async def test_a_shorter_time_holds_from_now_on(kernel: Kernel, address: KernelAddress) -> None:
    await address.hold(kernel.now + 10)
    await address.hold(kernel.now + 3)
    assert kernel.gone_at <= kernel.now + 3
    assert address.is_held
    await address.hold(kernel.now + 0.1)
    assert kernel.gone_at <= kernel.now
    assert not address.is_held


async def test_a_renewal_that_comes_late_is_as_good_as_the_first(
    kernel: Kernel, address: KernelAddress
) -> None:
    await address.hold(kernel.now + 3)
    kernel.now += 5
    assert not address.is_held
    await address.hold(kernel.now + 3)
    assert address.is_held


async def test_what_the_kernel_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, address: KernelAddress
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(netlink, "add_address", refuse)
    with pytest.raises(AddressFault, match=r"192\.0\.2\.100 could not be held at eth0: .* CAP_NET_ADMIN"):
        await address.hold(kernel.now + 3)


async def test_without_nft_an_address_is_not_parked_and_stays(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    held: set[str] = set()
    monkeypatch.setattr(netlink, "add_address", lambda address, interface, _: held.add(interface))
    monkeypatch.setattr(netlink, "remove_address", lambda address, interface: held.discard(interface))
    monkeypatch.setattr(nft, "installed", lambda: None)
    address = KernelAddress(ADDRESS, "lo0", announce_interval_s=1, clock=lambda: kernel.now)
    await address.hold(kernel.now + 3)
    monkeypatch.setattr("balancer.address.parking._primary_address", lambda *_, **__: ADDRESS)
    with pytest.raises(AddressFault, match="could not be parked: the program nft is not there: install nft"):
        await address.park()
    assert held == {"lo0"}
    assert address.is_held


async def test_an_address_that_is_held_at_lo_cannot_be_parked() -> None:
    address = KernelAddress(ADDRESS, "lo", announce_interval_s=1)
    with pytest.raises(AddressFault, match="nowhere to go"):
        await address.park()
