from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from chaos.hosts.arp_watch import Seen, Tenure, both_held_s, parse, tenures
from chaos.hosts.prober import Attempt, Probed

SERVICE = IPv4Address("10.0.0.100")
ONE, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"


def said(mac: str, *moments: float) -> list[Seen]:
    return [Seen(at_s, mac, gratuitous=False) for at_s in moments]


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
        (frame(2, SERVICE, CLIENT, to="02" * 6), Seen(1.0, ONE, gratuitous=False)),
        (frame(2, SERVICE, SERVICE), Seen(1.0, ONE, gratuitous=True)),
        (frame(1, SERVICE, SERVICE), Seen(1.0, ONE, gratuitous=True)),
        (frame(1, CLIENT, SERVICE), None),
        (frame(2, IPv4Address("10.0.0.11"), CLIENT, to="02" * 6), None),
        (frame(2, SERVICE, CLIENT)[:30], None),
    ],
)
def test_arp_tells_who_has_the_address(heard: bytes, expected: Seen | None) -> None:
    assert parse(heard, SERVICE, 1.0) == expected


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
