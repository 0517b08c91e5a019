from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from balancer.address.announcement import gratuitous_arp, neighbour_advertisement

MAC = bytes.fromhex("020406080a0c")


def test_arp_announcements_are_those_of_the_standard() -> None:
    request, reply = gratuitous_arp(IPv4Address("192.0.2.100"), MAC)
    assert request.hex(" ") == (
        "00 01 08 00 06 04 00 01 02 04 06 08 0a 0c c0 00 02 64 00 00 00 00 00 00 c0 00 02 64"
    )
    assert reply.hex(" ") == (
        "00 01 08 00 06 04 00 02 02 04 06 08 0a 0c c0 00 02 64 ff ff ff ff ff ff c0 00 02 64"
    )


def test_a_neighbour_advertisement_overrides_and_names_the_link_layer_address() -> None:
    message = neighbour_advertisement(IPv6Address("2001:db8::100"), MAC)
    assert message.hex(" ") == (
        "88 00 00 00 20 00 00 00 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 01 00 02 01 02 04 06 08 0a 0c"
    )
