"""The PROXY protocol, version 2: how a relay tells who is on the other side of a connection.

Sans-I/O. The clauses cited are those of haproxy's `proxy-protocol.txt`. The association's id travels in the
header as PP2_TYPE_UNIQUE_ID, so that a balancer's and a worker's log lines meet.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Final, TypeAlias

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""What a version 2 header begins with (2.2): no PDU of PS3.8 begins like that."""
FIXED_BYTES: Final = 16
MAX_HEADER_BYTES: Final = 4096
"""Largest header that is read: 536 bytes are asked of every receiver (2.2), a certificate may add to it."""
MAX_UNIQUE_ID_BYTES: Final = 128

TYPE_CRC32C: Final = 0x03
TYPE_UNIQUE_ID: Final = 0x05
TYPE_SSL: Final = 0x20
SUBTYPE_SSL_VERSION: Final = 0x21
SUBTYPE_SSL_CN: Final = 0x22
_CLIENT_SSL: Final = 0x01
_CLIENT_CERT_CONN: Final = 0x02
MAX_COMMON_NAME_BYTES: Final = 256
"""More than X.520 allows a common name, which is 64 characters."""

_STREAM: Final = 1
_INET: Final = 1
_INET6: Final = 2
_UNIX: Final = 3
_ADDRESS_BYTES: Final = {0: 0, _INET: 12, _INET6: 36, _UNIX: 216}

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class ProxyProtocolError(ValueError):
    """Bytes that are no PROXY protocol header, version 2."""


class Command(enum.IntEnum):
    """What the connection is for (2.2)."""

    LOCAL = 0
    """The relay's own: a probe. Addresses mean nothing."""
    PROXY = 1
    """On behalf of a client."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a TCP connection."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        """Return `address:port`; an IPv6 address stands in brackets (RFC 3986 3.2.2)."""
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsOfClient:
    """TLS that the relay has ended (2.2.6)."""

    version: str
    """`TLSv1.3`."""
    common_name: str | None = None
    """Of the subject of the client's certificate, which the relay has verified; None where it showed none."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header, to be sent or as it was read."""

    command: Command
    client: Endpoint | None = None
    """Where the connection came from; None for LOCAL, and where the relay does not know."""
    server: Endpoint | None = None
    """Where it was addressed to. Given together with `client`, of the same address family."""
    association_id: str | None = None
    """PP2_TYPE_UNIQUE_ID (2.2.5): at most 128 bytes of UTF-8."""
    tls: TlsOfClient | None = None
    """PP2_TYPE_SSL (2.2.6); None for a client without TLS."""
    consumed_bytes: int = field(default=0, compare=False)
    """Length of the header that was read; the client's bytes begin there."""

    @property
    def source(self) -> str:
        """Network address of the client, `host:port`; empty where there is none."""
        return str(self.client) if self.client else ""

    @property
    def is_local(self) -> bool:
        """Whether the connection is the relay's own."""
        return self.command is Command.LOCAL


def encode(header: Header) -> bytes:
    """Return the header as it is sent.

    Raises
    ------
    ValueError
        The two ends are not of one address family, one of them is missing, or the id is too long.
    """
    body = b""
    family = 0
    if header.client or header.server:
        if header.client is None or header.server is None:
            raise ValueError("client and server are given together, or neither")
        if header.client.address.version != header.server.address.version:
            raise ValueError(f"{header.client} and {header.server} are of two address families")
        family = _INET if header.client.address.version == 4 else _INET6
        body = b"".join(
            (
                header.client.address.packed,
                header.server.address.packed,
                struct.pack("!HH", header.client.port, header.server.port),
            )
        )
    if header.association_id is not None:
        unique_id = header.association_id.encode()
        if len(unique_id) > MAX_UNIQUE_ID_BYTES:
            raise ValueError(f"association id of {len(unique_id)} bytes; at most {MAX_UNIQUE_ID_BYTES}")
        body += _tlv(TYPE_UNIQUE_ID, unique_id)
    if header.tls is not None:
        body += _ssl(header.tls)
    transport = family << 4 | (_STREAM if family else 0)
    return SIGNATURE + struct.pack("!BBH", 0x20 | header.command, transport, len(body)) + body


def parse(data: bytes | bytearray | memoryview) -> Header | None:
    """Read a header from the first bytes of a connection.

    Parameters
    ----------
    data : bytes-like
        All that has come so far; what follows the header is not looked at.

    Returns
    -------
    Header or None
        None when more bytes are needed. TLVs other than the id and the checksum are skipped (2.2).

    Raises
    ------
    ProxyProtocolError
        The bytes cannot become a header that we take, however many follow.
    """
    data = bytes(data[:MAX_HEADER_BYTES])
    if not data.startswith(SIGNATURE[: len(data)]):
        raise ProxyProtocolError("no PROXY protocol signature")
    if len(data) < FIXED_BYTES:
        return None
    version_command, transport, length = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if version_command >> 4 != 2:
        raise ProxyProtocolError(f"PROXY protocol version {version_command >> 4}; only 2 is known")
    if version_command & 0xF not in tuple(Command):
        raise ProxyProtocolError(f"unknown PROXY protocol command {version_command & 0xF}")
    command = Command(version_command & 0xF)
    end = FIXED_BYTES + length
    if end > MAX_HEADER_BYTES:
        raise ProxyProtocolError(f"header of {end} bytes; at most {MAX_HEADER_BYTES}")
    if len(data) < end:
        return None
    if command is Command.LOCAL:
        return Header(command, consumed_bytes=end)
    client, server, offset = _addresses(transport, data[:end])
    tlvs = _tlvs(data[:end], offset, checked=True)
    return Header(command, client, server, _unique_id(tlvs), _tls(tlvs), consumed_bytes=end)


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def _ssl(tls: TlsOfClient) -> bytes:
    """Return PP2_TYPE_SSL: flags, `verify` that is 0 where the certificate was found good, and sub-TLVs."""
    flags = _CLIENT_SSL
    inner = _tlv(SUBTYPE_SSL_VERSION, tls.version.encode("ascii"))
    if tls.common_name is not None:
        flags |= _CLIENT_CERT_CONN
        name = tls.common_name.encode()[:MAX_COMMON_NAME_BYTES]
        inner += _tlv(SUBTYPE_SSL_CN, name.decode(errors="ignore").encode())
    return _tlv(TYPE_SSL, struct.pack("!BI", flags, int(tls.common_name is None)) + inner)


def _addresses(transport: int, data: bytes) -> tuple[Endpoint | None, Endpoint | None, int]:
    """Read both ends, and return where the TLVs begin."""
    family, kind = transport >> 4, transport & 0xF
    if transport and (family not in _ADDRESS_BYTES or kind != _STREAM):
        raise ProxyProtocolError(f"transport 0x{transport:02x} is not a stream of a known address family")
    size = _ADDRESS_BYTES[family]
    if len(data) < FIXED_BYTES + size:
        raise ProxyProtocolError(f"{len(data) - FIXED_BYTES} bytes where addresses take {size}")
    offset = FIXED_BYTES + size
    if family not in (_INET, _INET6):
        return None, None, offset
    width = 4 if family == _INET else 16
    source, destination, source_port, destination_port = struct.unpack_from(
        f"!{width}s{width}sHH", data, FIXED_BYTES
    )
    return (
        Endpoint(ipaddress.ip_address(source), source_port),
        Endpoint(ipaddress.ip_address(destination), destination_port),
        offset,
    )


def _tlvs(data: bytes, offset: int, *, checked: bool = False) -> dict[int, bytes]:
    """Walk the TLVs (2.2.1) from `offset`; where `checked`, a checksum among them is over all of `data`."""
    found: dict[int, bytes] = {}
    while offset < len(data):
        if offset + 3 > len(data):
            raise ProxyProtocolError("TLV cut short")
        kind, length = struct.unpack_from("!BH", data, offset)
        value = data[offset + 3 : offset + 3 + length]
        if len(value) != length:
            raise ProxyProtocolError(f"TLV 0x{kind:02x} of {length} bytes, {len(value)} are there")
        if checked and kind == TYPE_CRC32C:
            _check_crc32c(data, offset + 3, value)
        found[kind] = value
        offset += 3 + length
    return found


def _unique_id(tlvs: dict[int, bytes]) -> str | None:
    value = tlvs.get(TYPE_UNIQUE_ID)
    if value is None:
        return None
    if len(value) > MAX_UNIQUE_ID_BYTES:
        raise ProxyProtocolError(f"unique id of {len(value)} bytes; at most {MAX_UNIQUE_ID_BYTES}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ProxyProtocolError("unique id is not UTF-8") from error


def _tls(tlvs: dict[int, bytes]) -> TlsOfClient | None:
    """Read PP2_TYPE_SSL; a common name counts only where the certificate was verified."""
    value = tlvs.get(TYPE_SSL)
    if value is None:
        return None
    if len(value) < 5:
        raise ProxyProtocolError(f"PP2_TYPE_SSL of {len(value)} bytes; at least 5 are expected")
    flags, verify = struct.unpack_from("!BI", value)
    if not flags & _CLIENT_SSL:
        return None
    inner = _tlvs(value, 5)
    name = inner.get(SUBTYPE_SSL_CN) if verify == 0 else None
    return TlsOfClient(
        inner.get(SUBTYPE_SSL_VERSION, b"").decode("ascii", "backslashreplace"),
        None if name is None else name.decode(errors="backslashreplace"),
    )


def _check_crc32c(data: bytes, offset: int, value: bytes) -> None:
    """Check PP2_TYPE_CRC32C (2.2.3): computed over the header with the checksum's own bytes zero."""
    if len(value) != 4:
        raise ProxyProtocolError(f"checksum of {len(value)} bytes; 4 are expected")
    if crc32c(data[:offset] + bytes(4) + data[offset + 4 :]) != int.from_bytes(value, "big"):
        raise ProxyProtocolError("checksum does not fit the header")


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of a few bytes (RFC 9260, appendix A)."""
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)
