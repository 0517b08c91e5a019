from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.associate_rq import (
    PDU_HEADER_BYTES,
    AbortReason,
    AssociateRq,
    AssociateRqReader,
    NotAnAssociateRq,
    RejectReason,
    a_abort,
    a_associate_rj,
)
from cluster.dicom.associate import decode_associate_rq

LIMIT_BYTES = 1024


def request(called: bytes = b"ATRIA", calling: bytes = b"CT-1", items: bytes = b"") -> bytes:
    body = b"\0\1\0\0" + called.ljust(16) + calling.ljust(16) + bytes(32) + items
    return b"\x01\0" + len(body).to_bytes(4, "big") + body


def read(data: bytes, step: int = LIMIT_BYTES) -> tuple[AssociateRq | None, int]:
    reader = AssociateRqReader(LIMIT_BYTES)
    position = 0
    while position < len(data):
        end = position + min(step, reader.needed_bytes)
        found = reader.feed(data[position:end])
        position = min(end, len(data))
        if found is not None:
            return found, position
    return None, position


@given(items=st.binary(max_size=200), step=st.integers(1, 300), rest=st.binary(max_size=20))
def test_it_is_read_in_any_pieces_and_nothing_beyond_it(items: bytes, step: int, rest: bytes) -> None:
    pdu = request(items=items)
    assert read(pdu + rest, step) == (AssociateRq("ATRIA", "CT-1", pdu), len(pdu))


@given(st.binary(max_size=2 * LIMIT_BYTES), st.integers(1, 300))
def test_garbage_raises_nothing_but_its_own_error(data: bytes, step: int) -> None:
    with contextlib.suppress(NotAnAssociateRq):
        read(data, step)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_titles_are_read_as_workers_read_them(called: bytes, calling: bytes) -> None:
    """What a worker reports of other balancers' callers is added to what is known of our own."""
    pdu = request(called, calling)
    found, _ = read(pdu)
    theirs = decode_associate_rq(pdu[PDU_HEADER_BYTES:])
    assert found is not None
    assert (found.called_ae, found.calling_ae) == (theirs.called_ae, theirs.calling_ae)


def test_pynetdicom_writes_what_is_read() -> None:
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
    from pynetdicom.presentation import build_context

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "MR 2 NORTH"
    primitive.called_ae_title = "ARCHIVE"
    maximum = MaximumLengthNotification()
    maximum.maximum_length_received = 16382
    primitive.user_information = [maximum]
    context = build_context("1.2.840.10008.1.1")
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    encoded = pdu.encode()
    assert read(encoded) == (AssociateRq("ARCHIVE", "MR 2 NORTH", encoded), len(encoded))


def test_ae_titles_lose_their_padding_and_nothing_else() -> None:
    found, _ = read(request(called=b" A B\0\0", calling=b"\xc3\x84"))
    assert found is not None
    assert (found.called_ae, found.calling_ae) == ("A B", "??")


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (b"\x16", AbortReason.UNRECOGNIZED_PDU, "TLS"),
        (b"G", AbortReason.UNRECOGNIZED_PDU, "0x47 is no PDU type"),
        (b"\x04", AbortReason.UNEXPECTED_PDU, "0x04 where an A-ASSOCIATE-RQ"),
        (b"\x01\0\0\0\0\x43", AbortReason.INVALID_PDU_PARAMETER, "67 bytes; its fixed part"),
        (b"\x01\0\0\0\x03\xfb", AbortReason.INVALID_PDU_PARAMETER, "1025 bytes; at most 1024"),
        (b"\x01\0\xff\xff\xff\xff", AbortReason.INVALID_PDU_PARAMETER, "at most 1024"),
    ],
)
def test_what_is_wrong_is_said_as_soon_as_it_is_known(data: bytes, reason: AbortReason, said: str) -> None:
    with pytest.raises(NotAnAssociateRq, match=said) as raised:
        read(data)
    assert raised.value.reason is reason


def test_the_limit_itself_is_taken() -> None:
    pdu = request(items=bytes(LIMIT_BYTES - 74))
    assert len(pdu) == LIMIT_BYTES
    assert read(pdu)[0] is not None


def test_the_answers_are_those_of_the_standard() -> None:
    assert a_abort(AbortReason.UNEXPECTED_PDU) == bytes.fromhex("07 00 00000004 00 00 02 02")
    assert a_associate_rj(RejectReason.TEMPORARY_CONGESTION) == bytes.fromhex("03 00 00000004 00 02 03 01")
    assert a_associate_rj(RejectReason.LOCAL_LIMIT_EXCEEDED) == bytes.fromhex("03 00 00000004 00 02 03 02")
    assert a_associate_rj(RejectReason.CALLED_AE_NOT_RECOGNIZED) == bytes.fromhex(
        "03 00 00000004 00 01 01 07"
    )
    assert a_associate_rj(RejectReason.CALLING_AE_NOT_RECOGNIZED) == bytes.fromhex(
        "03 00 00000004 00 01 01 03"
    )
