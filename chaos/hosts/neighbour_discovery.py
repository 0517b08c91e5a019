"""Asking who has an IPv6 address, and being told (RFC 4861)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from chaos.hosts.arp import Claim

ETHER_TYPE: Final = 0x86DD
_ETHERNET: Final = struct.Struct("!6s6sH")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_VERSION: Final = 6 << 28
_ICMPV6: Final = 58
_HOP_LIMIT: Final = 255
"""What comes from farther away is not believed (RFC 4861 7.1.1, 7.1.2)."""
_MESSAGE: Final = struct.Struct("!BBHI16s")
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136
_SOLICITED: Final = 0x4000_0000
_OPTION: Final = struct.Struct("!BB6s")
_SOURCE_LINK_LAYER_ADDRESS: Final = 1
_TARGET_LINK_LAYER_ADDRESS: Final = 2
_SOLICITED_NODE: Final = IPv6Address("ff02::1:ff00:0").packed[:13]


def question(address: IPv6Address, own: IPv6Address, mac: bytes) -> bytes:
    """Return the Ethernet frame with a Neighbour Solicitation (RFC 4861 4.3).

    Parameters
    ----------
    address : IPv6Address
    own : IPv6Address
        Of who asks.
    mac : bytes
        Of who asks.
    """
    to = _SOLICITED_NODE + address.packed[13:]  # RFC 4291 2.7.1
    option = _OPTION.pack(_SOURCE_LINK_LAYER_ADDRESS, 1, mac)
    empty = _MESSAGE.pack(_SOLICITATION, 0, 0, 0, address.packed) + option
    sum_ = checksum(own.packed + to + struct.pack("!II", len(empty), _ICMPV6) + empty)
    message = _MESSAGE.pack(_SOLICITATION, 0, sum_, 0, address.packed) + option
    packet = _IPV6.pack(_VERSION, len(message), _ICMPV6, _HOP_LIMIT, own.packed, to)
    return _ETHERNET.pack(b"\x33\x33" + to[12:], mac, ETHER_TYPE) + packet + message  # RFC 2464 7


def claim(frame: bytes, address: IPv6Address) -> Claim | None:
    """Return what an Ethernet frame says of who has an address; None if nothing.

    A Neighbour Advertisement does (RFC 4861 4.4), by its option or, without one, by who has sent it.
    """
    at = _ETHERNET.size + _IPV6.size
    if len(frame) < at + _MESSAGE.size:
        return None
    _, mac, ether_type = _ETHERNET.unpack_from(frame)
    _, length, next_header, hop_limit, _, _ = _IPV6.unpack_from(frame, _ETHERNET.size)
    if (ether_type, next_header, hop_limit) != (ETHER_TYPE, _ICMPV6, _HOP_LIMIT):
        return None
    kind, _, _, flags, target = _MESSAGE.unpack_from(frame, at)
    if kind != _ADVERTISEMENT or target != address.packed:
        return None
    options = frame[at + _MESSAGE.size : at + length]
    return Claim((_target_link_layer_address(options) or mac).hex(":"), not flags & _SOLICITED)


def checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _target_link_layer_address(options: bytes) -> bytes | None:
    while len(options) >= _OPTION.size:
        kind, eights, value = _OPTION.unpack_from(options)
        if kind == _TARGET_LINK_LAYER_ADDRESS:
            return bytes(value)
        if not eights:
            return None
        options = options[8 * eights :]
    return None
