from __future__ import annotations

import ipaddress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.proxy_protocol import (
    MAX_HEADER_BYTES,
    SIGNATURE,
    Command,
    Endpoint,
    Header,
    ProxyProtocolError,
    TlsOfClient,
    crc32c,
    encode,
    parse,
)

ports = st.integers(0, 65535)


def endpoints(version: Literal[4, 6]) -> st.SearchStrategy[Endpoint]:
    return st.builds(Endpoint, st.ip_addresses(v=version), ports)


tls_of_clients = st.builds(
    TlsOfClient,
    st.sampled_from(["TLSv1.2", "TLSv1.3"]),
    st.none() | st.text(st.characters(codec="utf-8"), max_size=64),
)
_VERSIONS: tuple[Literal[4], Literal[6]] = (4, 6)
headers = st.one_of(
    st.just(Header(Command.LOCAL)),
    st.builds(
        Header,
        st.just(Command.PROXY),
        association_id=st.none() | st.text(st.characters(codec="utf-8"), max_size=32),
    ),
    *(
        st.builds(
            Header,
            st.just(Command.PROXY),
            client=endpoints(version),
            server=endpoints(version),
            association_id=st.none() | st.text(st.characters(codec="utf-8"), max_size=32),
            tls=st.none() | tls_of_clients,
        )
        for version in _VERSIONS
    ),
)

IPV4 = Header(
    Command.PROXY,
    Endpoint(ipaddress.ip_address("192.0.2.7"), 50104),
    Endpoint(ipaddress.ip_address("198.51.100.1"), 104),
    "0123456789abcdef",
)


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def ipv4_header(tlvs: bytes, *, transport: int = 0x11, version_command: int = 0x21) -> bytes:
    addresses = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + (50104).to_bytes(2, "big") + (104).to_bytes(2, "big")
    length = len(addresses + tlvs).to_bytes(2, "big")
    return SIGNATURE + bytes((version_command, transport)) + length + addresses + tlvs


@given(headers, st.binary(max_size=100))
def test_what_was_encoded_is_read_and_what_follows_is_left(header: Header, rest: bytes) -> None:
    data = encode(header)
    found = parse(data + rest)
    assert found == header
    assert found.consumed_bytes == len(data)


@given(headers)
def test_every_prefix_asks_for_more(header: Header) -> None:
    data = encode(header)
    assert all(parse(data[:end]) is None for end in range(len(data)))


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: SIGNATURE + tail))
def test_garbage_raises_nothing_but_its_own_error(data: bytes) -> None:
    try:
        found = parse(data)
    except ProxyProtocolError:
        return
    assert found is None or found.consumed_bytes <= len(data)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert encode(IPV4) == ipv4_header(tlv(0x05, b"0123456789abcdef"))


def test_source_is_host_and_port() -> None:
    assert IPV4.source == "192.0.2.7:50104"
    there = Endpoint(ipaddress.ip_address("2001:db8::7"), 50104)
    assert Header(Command.PROXY, there, there).source == "[2001:db8::7]:50104"
    assert Header(Command.LOCAL).source == ""


def test_a_wrong_first_byte_is_found_at_once() -> None:
    with pytest.raises(ProxyProtocolError, match="signature"):
        parse(b"\x01")


def test_unknown_tlvs_are_skipped() -> None:
    found = parse(ipv4_header(tlv(0xE0, b"theirs") + tlv(0x05, b"id") + tlv(0x04, bytes(7))))
    assert found is not None
    assert (found.source, found.association_id) == ("192.0.2.7:50104", "id")


def test_a_local_header_has_no_source_whatever_it_says() -> None:
    found = parse(ipv4_header(b"", version_command=0x20))
    assert found is not None
    assert (found.command, found.source, found.consumed_bytes) == (Command.LOCAL, "", 28)


def test_a_unix_socket_has_no_source() -> None:
    found = parse(SIGNATURE + bytes((0x21, 0x31)) + (216 + 5).to_bytes(2, "big") + bytes(216) + tlv(5, b"id"))
    assert found is not None
    assert (found.source, found.association_id) == ("", "id")


def test_checksum_is_checked() -> None:
    blank = ipv4_header(tlv(0x05, b"id") + tlv(0x03, bytes(4)))
    right = blank[:-4] + crc32c(blank).to_bytes(4, "big")
    assert parse(right) is not None
    with pytest.raises(ProxyProtocolError, match="checksum"):
        parse(right.replace(b"id", b"di"))


def test_checksum_is_that_of_the_rfc() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (SIGNATURE + b"\x11\x11\0\x0c", "version 1"),
        (SIGNATURE + b"\x22\x11\0\x0c", "command 2"),
        (SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), "transport 0x12"),
        (SIGNATURE + b"\x21\x41\0\x0c" + bytes(12), "transport 0x41"),
        (SIGNATURE + b"\x21\x01\0\0", None),
        (SIGNATURE + b"\x21\x11\0\x0b" + bytes(11), "11 bytes where addresses take 12"),
        (SIGNATURE + b"\x21\x11" + (MAX_HEADER_BYTES - 15).to_bytes(2, "big"), "at most 4096"),
        (ipv4_header(b"\x05\0"), "cut short"),
        (ipv4_header(b"\x05\0\x09id"), "2 are there"),
        (ipv4_header(tlv(0x05, b"\xff")), "UTF-8"),
        (ipv4_header(tlv(0x05, bytes(129))), "at most 128"),
        (ipv4_header(tlv(0x03, b"123")), "4 are expected"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str | None) -> None:
    if said is None:
        assert parse(data) is not None
        return
    with pytest.raises(ProxyProtocolError, match=said):
        parse(data)


def test_what_cannot_be_sent_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="neither"):
        encode(Header(Command.PROXY, client=IPV4.client))
    with pytest.raises(ValueError, match="two address families"):
        encode(Header(Command.PROXY, IPV4.client, Endpoint(ipaddress.ip_address("::1"), 104)))
    with pytest.raises(ValueError, match="at most 128"):
        encode(Header(Command.PROXY, association_id="x" * 129))


def test_a_certificate_that_was_not_verified_names_nobody() -> None:
    tls = b"\x03" + (1).to_bytes(4, "big") + b"\x22\0\x02CT"
    header = SIGNATURE + b"\x21\0" + (3 + len(tls)).to_bytes(2, "big") + b"\x20\0" + bytes((len(tls),)) + tls
    found = parse(header)
    assert found is not None
    assert found.tls == TlsOfClient("")
