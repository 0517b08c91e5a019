from __future__ import annotations

import pytest

from balancer.associate_rq import NotAnAssociateRq
from balancer.passed_through import ClientHelloReader


def record(held: bytes, kind: int = 0x16) -> bytes:
    return bytes((kind, 3, 1)) + len(held).to_bytes(2, "big") + held


def hello(size: int, kind: int = 1) -> bytes:
    return bytes((kind,)) + size.to_bytes(3, "big") + bytes(size)


def read(stream: bytes, step: int) -> bytes | None:
    """Feed in steps, as much as is asked for; return the records that were put together."""
    reader = ClientHelloReader()
    while stream:
        count = min(step, reader.needed_bytes)
        request = reader.feed(stream[:count])
        stream = stream[count:]
        if request is not None:
            assert not stream
            return request.pdu
    return None


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "stream",
    [
        record(hello(300)),
        record(hello(300)[:1]) + record(hello(300)[1:4]) + record(hello(300)[4:]),
        b"".join(record(hello(40_000)[start : start + 16_384]) for start in range(0, 40_004, 16_384)),
        record(hello(0)),
        record(hello(300, kind=2)[:20]),
    ],
    ids=["one record", "cut within its header", "more than a record holds", "empty", "no ClientHello"],
)
def test_a_hello_is_read_whole_in_however_many_records_and_pieces(stream: bytes, step: int) -> None:
    assert read(stream, step) == stream
    assert read(stream[:-1], step) is None


@pytest.mark.parametrize(
    "stream",
    [
        b"\x01",
        b"\x80\x2e\x01",
        record(hello(300)[:50]) + record(b"\x01\x00", kind=0x15),
        record(b""),
        b"\x16\x03\x01\x40\x01",
        record(hello(1 << 17)[:100]),
    ],
    ids=["a PDU", "SSL 2.0", "an alert in between", "an empty record", "too long a record", "too long"],
)
def test_what_is_no_hello_is_refused_as_soon_as_that_is_known(stream: bytes) -> None:
    with pytest.raises(NotAnAssociateRq):
        read(stream, 1)
