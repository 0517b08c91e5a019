from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from chaos.hosts import arp, neighbour_discovery
from chaos.hosts.address_watch import Seen, Tenure, both_held_s, tenures
from chaos.hosts.arp import Claim
from chaos.hosts.prober import Attempt, Probed

SERVICE = IPv4Address("10.0.0.100")
ONE, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"


def said(mac: str, *moments: float) -> list[Seen]:
    return [Seen(at_s, Claim(mac, is_unasked=False)) for at_s in moments]


def test_a_holder_who_falls_silent_holds_it_no_more() -> None:
    seen = said(ONE, 0.0, 0.1, 0.2, 2.0, 2.1)
    assert tenures(seen, silence_s=0.5) == [Tenure(ONE, 0.0, 0.2), Tenure(ONE, 2.0, 2.1)]


def test_an_address_that_went_over_was_held_by_one_at_a_time() -> None:
    assert both_held_s(tenures(said(ONE, 0.0, 0.1) + said(OTHER, 0.2, 0.3), silence_s=0.5)) < 0


def test_two_who_answer_by_turns_both_hold_it() -> None:
    seen = said(ONE, 0.0, 0.2, 0.4, 0.6) + said(OTHER, 0.3, 0.5, 0.7)
    assert both_held_s(tenures(seen, silence_s=0.25)) == pytest.approx(0.3)


def test_what_one_says_twice_is_no_second_holder() -> None:
    assert both_held_s(tenures(said(ONE, 0.0, 1.0, 0.5), silence_s=0.1)) == 0.0


def frame(operation: int, sender: IPv4Address, target: IPv4Address, to: str = "ff" * 6) -> bytes:
    mac = bytes.fromhex(ONE.replace(":", ""))
    head = struct.pack("!6s6sH", bytes.fromhex(to), mac, 0x0806)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + body + mac + sender.packed + bytes(6) + target.packed + bytes(18)


CLIENT = IPv4Address("10.0.0.99")


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (frame(2, SERVICE, CLIENT, to="02" * 6), Claim(ONE, is_unasked=False)),
        (frame(2, SERVICE, SERVICE), Claim(ONE, is_unasked=True)),
        (frame(1, SERVICE, SERVICE), Claim(ONE, is_unasked=True)),
        (frame(1, CLIENT, SERVICE), None),
        (frame(2, IPv4Address("10.0.0.11"), CLIENT, to="02" * 6), None),
        (frame(2, SERVICE, CLIENT)[:30], None),
    ],
)
def test_arp_tells_who_has_the_address(heard: bytes, expected: Claim | None) -> None:
    assert arp.claim(heard, SERVICE) == expected


def test_a_question_by_arp_claims_the_own_address_and_no_other() -> None:
    asked = arp.question(SERVICE, CLIENT, bytes.fromhex(ONE.replace(":", "")))
    assert arp.claim(asked, SERVICE) is None
    assert arp.claim(asked, CLIENT) == Claim(ONE, is_unasked=True)


SERVICE6, CLIENT6 = IPv6Address("fd00::64"), IPv6Address("fd00::63")
SOLICITED, OVERRIDE = 0x4000_0000, 0x2000_0000


def advertisement(
    target: IPv6Address = SERVICE6,
    *,
    flags: int = SOLICITED | OVERRIDE,
    options: bytes = bytes.fromhex("0201" + "020000000001"),
    kind: int = 136,
    hop_limit: int = 255,
) -> bytes:
    message = struct.pack("!BBHI", kind, 0, 0, flags) + target.packed + options
    packet = struct.pack("!IHBB", 6 << 28, len(message), 58, hop_limit) + SERVICE6.packed + CLIENT6.packed
    return bytes(6) + bytes.fromhex(OTHER.replace(":", "")) + b"\x86\xdd" + packet + message


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (advertisement(), Claim(ONE, is_unasked=False)),
        (advertisement(flags=OVERRIDE), Claim(ONE, is_unasked=True)),
        (advertisement(options=bytes.fromhex("0e01" + 6 * "00" + "0201020000000001")), Claim(ONE, False)),
        (advertisement(options=b""), Claim(OTHER, is_unasked=False)),
        (advertisement(options=bytes(8)), Claim(OTHER, is_unasked=False)),
        (advertisement(CLIENT6), None),
        (advertisement(kind=135), None),
        (advertisement(hop_limit=254), None),
        (advertisement()[:60], None),
    ],
)
def test_neighbour_discovery_tells_who_has_the_address(heard: bytes, expected: Claim | None) -> None:
    assert neighbour_discovery.claim(heard, SERVICE6) == expected


def test_a_neighbour_solicitation_is_whole() -> None:
    asked = neighbour_discovery.question(SERVICE6, CLIENT6, bytes.fromhex(ONE.replace(":", "")))
    assert asked[:6].hex(":") == "33:33:ff:00:00:64"
    source, to, message = asked[22:38], asked[38:54], asked[54:]
    assert IPv6Address(to) == IPv6Address("ff02::1:ff00:64")
    pseudo_header = source + to + struct.pack("!II", len(message), 58)
    assert neighbour_discovery.checksum(pseudo_header + message) == 0
    assert neighbour_discovery.claim(asked, SERVICE6) is None


def attempt(began_s: float, ended_s: float, fault: str | None = None) -> Attempt:
    return Attempt(began_s, ended_s, fault)


def test_the_longest_gap_is_between_two_that_succeeded() -> None:
    lost = [attempt(number / 10, number / 10 + 1, "no answer") for number in range(2, 30)]
    probed = Probed((attempt(0.0, 0.1), *lost, attempt(3.0, 3.1), attempt(3.2, 3.3)))
    assert probed.longest_gap_s() == pytest.approx(3.0)
    assert len(probed.faults) == 28


def test_a_prober_that_never_succeeded_saw_one_gap() -> None:
    assert Probed((attempt(0, 1, "refused"), attempt(2, 3, "refused"))).longest_gap_s() == 3


def test_a_gap_that_has_not_ended_counts() -> None:
    assert Probed((attempt(0, 0.1), attempt(1, 2, "x"), attempt(4, 5, "x"))).longest_gap_s() == pytest.approx(
        4.9
    )


def test_only_an_association_that_began_after_a_moment_shows_that_it_works_again() -> None:
    probed = Probed((attempt(0.9, 1.4), attempt(1.0, 2.0, "x"), attempt(2.5, 2.6)))
    assert probed.until_success_s(1.0) == pytest.approx(1.6)
    assert probed.until_success_s(3.0) is None
