from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import build_context, build_role
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from cluster.dicom.associate import (
    AssociateAC,
    AssociateRQ,
    ProposedItem,
    ResultItem,
    Role,
    UserInformation,
    decode_associate_ac,
    decode_associate_rq,
)
from cluster.dicom.extended import ExtendedNegotiation
from cluster.dicom.faults import RemoteProtocolError

uids = st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True)
titles = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), max_size=16)
users = st.builds(
    UserInformation,
    st.integers(0, 2**32 - 1),
    uids,
    st.text("ABC_1", max_size=16),
    st.lists(st.builds(Role, uids, st.booleans(), st.booleans()), max_size=3).map(tuple),
    st.lists(st.builds(ExtendedNegotiation, uids, st.binary(max_size=8)), max_size=3).map(tuple),
)
ids = st.lists(st.integers(0, 127).map(lambda n: 2 * n + 1), unique=True, max_size=6)
requests = st.builds(
    AssociateRQ,
    titles,
    titles,
    ids.flatmap(
        lambda odd: st.tuples(
            *(st.builds(ProposedItem, st.just(i), uids, st.lists(uids, max_size=4).map(tuple)) for i in odd)
        )
    ),
    users,
)
responses = st.builds(
    AssociateAC,
    titles,
    titles,
    ids.flatmap(
        lambda odd: st.tuples(*(st.builds(ResultItem, st.just(i), st.integers(0, 4), uids) for i in odd))
    ),
    users,
)
REQUEST = AssociateRQ(
    "CALLED",
    "CALLING",
    (ProposedItem(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    UserInformation(16384, "1.2.3", "NAME"),
)


@given(requests)
def test_a_request_survives_its_encoding(request: AssociateRQ) -> None:
    assert decode_associate_rq(request.encode()[6:]) == request


@given(responses)
def test_a_response_survives_its_encoding(response: AssociateAC) -> None:
    assert decode_associate_ac(response.encode()[6:]) == response


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_the_peers_fault_and_nothing_else(data: bytes, behind_a_good_beginning: bool) -> None:
    data = (REQUEST.encode()[6:74] if behind_a_good_beginning else b"") + data
    for decode in (decode_associate_rq, decode_associate_ac):
        with suppress(RemoteProtocolError):
            decode(data)


def test_a_request_of_pynetdicom_is_read_as_pynetdicom_reads_it() -> None:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "CALLING", "CALLED"
    context = build_context("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    context.context_id = 7
    primitive.presentation_context_definition_list = [context]
    length, class_uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, class_uid.implementation_class_uid = 32768, "1.2.3.4"
    version, identity = ImplementationVersionNameNotification(), UserIdentityNegotiation()
    version.implementation_version_name = "SOMEBODY"
    identity.user_identity_type, identity.primary_field = 1, b"somebody"
    role = build_role("1.2.840.10008.5.1.4.1.1.2", scu_role=False, scp_role=True)
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = UID("1.2.840.10008.5.1.4.1.1.2")
    extended.service_class_application_information = b"\1\0\1"
    primitive.user_information = [length, class_uid, role, extended, version, identity]
    assert decode_associate_rq(A_ASSOCIATE_RQ(primitive).encode()[6:]) == AssociateRQ(
        called_ae="CALLED",
        calling_ae="CALLING",
        contexts=(
            ProposedItem(7, "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")),
        ),
        user_information=UserInformation(
            32768,
            "1.2.3.4",
            "SOMEBODY",
            (Role("1.2.840.10008.5.1.4.1.1.2", scu=False, scp=True),),
            (ExtendedNegotiation("1.2.840.10008.5.1.4.1.1.2", b"\1\0\1"),),
        ),
    )


def test_pynetdicom_reads_a_request_as_it_is_meant() -> None:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(REQUEST.encode())
    assert (pdu.called_ae_title, pdu.calling_ae_title) == ("CALLED", "CALLING")
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntax) for c in pdu.presentation_context] == [
        (1, "1.2.840.10008.1.1", ["1.2.840.10008.1.2"])
    ]
    assert pdu.user_information is not None
    assert pdu.user_information.maximum_length == 16384
    assert pdu.encode() == REQUEST.encode()


def test_pynetdicom_reads_a_response_as_it_is_meant() -> None:
    response = AssociateAC(
        "CALLED",
        "CALLING",
        (ResultItem(1, 0, "1.2.840.10008.1.2"), ResultItem(3, 4, "1.2.840.10008.1.2")),
        UserInformation(
            0,
            "1.2.3",
            "NAME",
            (Role("1.2.3", scu=True, scp=True),),
            (ExtendedNegotiation("1.2.3", b"\0\1"),),
        ),
    )
    pdu = A_ASSOCIATE_AC()
    pdu.decode(response.encode())
    assert [(c.context_id, c.result, c.transfer_syntax) for c in pdu.presentation_context] == [
        (1, 0, "1.2.840.10008.1.2"),
        (3, 4, "1.2.840.10008.1.2"),
    ]
    assert pdu.user_information is not None
    assert pdu.user_information.ext_neg is not None
    (extended,) = pdu.user_information.ext_neg
    assert (extended.uid, extended.app_info) == ("1.2.3", b"\0\1")
    assert pdu.encode() == response.encode()


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\5", b"\0\5" + b"1.2."])
def test_an_extended_negotiation_whose_uid_leaves_its_place_is_refused(value: bytes) -> None:
    sub_item = struct.pack(">BxH", 0x56, len(value)) + value
    body = REQUEST.encode()[6:74] + struct.pack(">BxH", 0x50, len(sub_item)) + sub_item
    with pytest.raises(RemoteProtocolError):
        decode_associate_rq(body)


def test_items_of_unknown_types_are_skipped() -> None:
    body = REQUEST.encode()[6:] + b"\x77\x00\x00\x03abc"
    assert decode_associate_rq(body) == REQUEST


def test_blank_and_odd_ae_titles_are_read() -> None:
    body = bytearray(REQUEST.encode()[6:])
    body[4:36] = b" " * 16 + b"\xe4\xf6\xfc\0".ljust(16, b"\0")
    request = decode_associate_rq(bytes(body))
    assert (request.called_ae, request.calling_ae) == ("", "???")


@pytest.mark.parametrize("ids", [(1, 1), (2,), (0,)])
def test_context_ids_that_are_even_or_come_twice_are_refused(ids: tuple[int, ...]) -> None:
    contexts = tuple(ProposedItem(i, "1.2.3", ("1.2.840.10008.1.2",)) for i in ids)
    request = AssociateRQ("A", "B", contexts, UserInformation(0))
    with pytest.raises(RemoteProtocolError):
        decode_associate_rq(request.encode()[6:])


def test_an_item_that_leaves_its_place_is_refused() -> None:
    body = REQUEST.encode()[6:] + struct.pack(">BxH", 0x20, 400) + bytes(8)
    with pytest.raises(RemoteProtocolError):
        decode_associate_rq(body)
