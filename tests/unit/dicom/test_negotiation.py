from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.dicom import uids
from cluster.dicom.associate import (
    AssociateAC,
    AssociateRQ,
    ProposedItem,
    Role,
    UserInformation,
    decode_associate_ac,
    decode_associate_rq,
)
from cluster.dicom.extended import ExtendedNegotiation, Extension, agree, has
from cluster.dicom.negotiation import AcceptancePolicy, contexts_of, negotiate
from cluster.dicom.pdu import AssociateRJ
from cluster.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LE,
    EXPLICIT_VR_BE,
    EXPLICIT_VR_LE,
    IMPLICIT_VR_LE,
    choose_for_storage,
)
from cluster.dicom.uids import LONGEST_UID

CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE_CLASS = "1.2.840.113619.4.2"
WORKLIST = "1.2.840.10008.5.1.4.31"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
RLE = "1.2.840.10008.1.2.5"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"
JPIP = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205))
POLICY = AcceptancePolicy("ATRIA")


def request(*contexts: tuple[str, tuple[str, ...]], roles: tuple[Role, ...] = ()) -> AssociateRQ:
    items = tuple(ProposedItem(2 * i + 1, *context) for i, context in enumerate(contexts))
    return AssociateRQ("ATRIA", "SOMEBODY", items, UserInformation(16384, "1.2.3", "X", roles))


def answer(
    asked: AssociateRQ, policy: AcceptancePolicy = POLICY, associations: int = 0
) -> AssociateAC | AssociateRJ:
    return negotiate(asked, policy, associations=associations, max_pdu_length_bytes=1 << 20)


def results(asked: AssociateRQ, policy: AcceptancePolicy = POLICY) -> list[tuple[int, str]]:
    answered = answer(asked, policy)
    assert isinstance(answered, AssociateAC)
    return [(result.result, result.transfer_syntax) for result in answered.results]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((IMPLICIT_VR_LE, EXPLICIT_VR_LE), EXPLICIT_VR_LE),
        ((IMPLICIT_VR_LE, EXPLICIT_VR_BE), EXPLICIT_VR_BE),
        ((EXPLICIT_VR_BE, DEFLATED_EXPLICIT_VR_LE, EXPLICIT_VR_LE), EXPLICIT_VR_LE),
        ((EXPLICIT_VR_BE, DEFLATED_EXPLICIT_VR_LE), DEFLATED_EXPLICIT_VR_LE),
        ((EXPLICIT_VR_LE, JPEG_BASELINE), JPEG_BASELINE),
        ((EXPLICIT_VR_LE, JPEG_BASELINE, JPEG_LOSSLESS), JPEG_LOSSLESS),
        ((IMPLICIT_VR_LE, RLE), RLE),
        ((PRIVATE_SYNTAX, IMPLICIT_VR_LE), IMPLICIT_VR_LE),
        ((PRIVATE_SYNTAX,), PRIVATE_SYNTAX),
        ((*JPIP, IMPLICIT_VR_LE), IMPLICIT_VR_LE),
        (JPIP, None),
        ((), None),
        (("",), None),
    ],
)
def test_the_transfer_syntax_is_the_first_of_our_order(offered: tuple[str, ...], chosen: str | None) -> None:
    assert choose_for_storage(offered) == chosen


@given(st.permutations([IMPLICIT_VR_LE, EXPLICIT_VR_LE, JPEG_LOSSLESS, PRIVATE_SYNTAX, *JPIP]))
def test_the_requestors_order_does_not_count_among_different_ranks(offered: list[str]) -> None:
    assert choose_for_storage(offered) == JPEG_LOSSLESS


def test_any_storage_class_is_taken_private_ones_too() -> None:
    assert results(request((CT, (EXPLICIT_VR_LE,)), (PRIVATE_CLASS, (IMPLICIT_VR_LE,)))) == [
        (0, EXPLICIT_VR_LE),
        (0, IMPLICIT_VR_LE),
    ]


def test_only_known_storage_classes_are_taken_when_the_policy_says_so() -> None:
    policy = AcceptancePolicy("ATRIA", accept_unknown_storage=False)
    asked = request((CT, (EXPLICIT_VR_LE,)), (PRIVATE_CLASS, (IMPLICIT_VR_LE,)))
    assert [result for result, _ in results(asked, policy)] == [0, 3]


RETIRED_STORAGE = ["1.2.840.10008.5.1.4.1.1.5", "1.2.840.10008.5.1.4.1.1.12.77", "1.2.840.10008.5.1.1.29"]
RETIRED_SERVICES = [
    "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    "1.2.840.10008.3.1.2.3.1",  # Detached Study Management
    "1.2.840.10008.5.1.4.32.1",  # General Purpose Worklist - FIND
]


@pytest.mark.parametrize("retired", RETIRED_STORAGE)
def test_retired_storage_classes_are_taken(retired: str) -> None:
    assert results(request((retired, (EXPLICIT_VR_LE,)))) == [(0, EXPLICIT_VR_LE)]


@pytest.mark.parametrize(
    "service", [WORKLIST, STORAGE_COMMITMENT, "1.2.840.10008.5.1.1.9", "", *RETIRED_SERVICES, EXPLICIT_VR_LE]
)
def test_a_service_that_is_not_offered_is_not_taken_for_storage(service: str) -> None:
    assert results(request((service, (EXPLICIT_VR_LE,)))) == [(3, EXPLICIT_VR_LE)]


def test_a_syntax_longer_than_a_uid_can_be_is_not_taken() -> None:
    longest = "1." + "2" * (LONGEST_UID - 2)
    longer = longest + "2"
    asked = request((longest, (IMPLICIT_VR_LE,)), (longer, (IMPLICIT_VR_LE,)), (CT, (longer, longest)))
    assert results(asked) == [(0, IMPLICIT_VR_LE), (3, IMPLICIT_VR_LE), (0, longest)]
    assert results(request((CT, (longer,)))) == [(4, longer)]


def test_the_answer_can_be_encoded_however_much_is_asked_for() -> None:
    """All that is answered of roles stands in one item with what we say of ourselves (PS3.8 9.3.3.3)."""
    most = [f"1.{number}.".ljust(LONGEST_UID, "2") for number in range(128)]
    for uids_asked_for in (["1." + "2" * 65_490], most):
        asked = dataclasses.replace(
            request(*((uid, (IMPLICIT_VR_LE,)) for uid in uids_asked_for)),
            user_information=UserInformation(0, roles=tuple(Role(uid, True, True) for uid in uids_asked_for)),
        )
        answered = answer(decode_associate_rq(asked.encode()[6:]))
        assert isinstance(answered, AssociateAC)
        assert decode_associate_ac(answered.encode()[6:]) == answered


def test_a_service_takes_what_we_can_read() -> None:
    asked = request(
        (uids.VERIFICATION, (IMPLICIT_VR_LE,)),
        (uids.STUDY_ROOT_FIND, (IMPLICIT_VR_LE, EXPLICIT_VR_LE)),
        (uids.STUDY_ROOT_FIND, (EXPLICIT_VR_BE,)),
    )
    assert [result for result, _ in results(asked)] == [0, 0, 4]
    assert results(asked)[1] == (0, EXPLICIT_VR_LE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"protocol_version": 2}, (1, 2, 2)),
        ({"application_context": "1.2.3"}, (1, 1, 2)),
        ({"application_context": ""}, (1, 1, 2)),
        ({"contexts": ()}, (1, 1, 1)),
        ({"user_information": UserInformation(6)}, (1, 1, 1)),
    ],
)
def test_a_request_that_cannot_be_met_is_rejected_with_its_reason(
    change: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    asked = dataclasses.replace(request((CT, (EXPLICIT_VR_LE,))), **change)
    assert answer(asked) == AssociateRJ(*expected)


def test_a_protocol_version_with_more_bits_than_ours_is_taken() -> None:
    asked = dataclasses.replace(request((CT, (EXPLICIT_VR_LE,))), protocol_version=3)
    assert isinstance(answer(asked), AssociateAC)


def test_another_called_ae_title_is_rejected_only_when_it_is_checked() -> None:
    asked = dataclasses.replace(request((CT, (EXPLICIT_VR_LE,))), called_ae="OTHER")
    assert isinstance(answer(asked), AssociateAC)
    assert answer(asked, AcceptancePolicy("ATRIA", check_called_ae_title=True)) == AssociateRJ(1, 1, 7)


def test_an_unknown_calling_ae_title_is_rejected_for_good_only_where_those_that_may_call_are_named() -> None:
    asked = dataclasses.replace(request((CT, (EXPLICIT_VR_LE,))), calling_ae="STRANGER")
    assert isinstance(answer(asked), AssociateAC)
    named = AcceptancePolicy("ATRIA", calling_ae_titles=frozenset({"CT1"}))
    assert answer(asked, named) == AssociateRJ(1, 1, 3)
    assert isinstance(answer(dataclasses.replace(asked, calling_ae="CT1"), named), AssociateAC)
    nobody = AcceptancePolicy("ATRIA", calling_ae_titles=frozenset())
    assert answer(asked, nobody) == AssociateRJ(1, 1, 3)


def test_at_the_ceiling_of_associations_the_next_is_rejected_for_now() -> None:
    policy = AcceptancePolicy("ATRIA", max_associations=3)
    asked = request((CT, (EXPLICIT_VR_LE,)))
    assert isinstance(answer(asked, policy, associations=2), AssociateAC)
    assert answer(asked, policy, associations=3) == AssociateRJ(2, 3, 2)


def test_roles_are_taken_as_proposed_for_storage_and_as_scu_only_for_services() -> None:
    asked = request(
        (CT, (EXPLICIT_VR_LE,)),
        (uids.STUDY_ROOT_GET, (EXPLICIT_VR_LE,)),
        (PRIVATE_CLASS, (EXPLICIT_VR_LE,)),
        roles=(
            Role(CT, scu=False, scp=True),
            Role(uids.STUDY_ROOT_GET, scu=True, scp=True),
            Role("1.2.3", scu=True, scp=True),
        ),
    )
    answered = answer(asked)
    assert isinstance(answered, AssociateAC)
    assert set(answered.user_information.roles) == {
        Role(CT, scu=False, scp=True),
        Role(uids.STUDY_ROOT_GET, scu=True, scp=False),
    }
    agreed = contexts_of(asked, answered)
    assert [(c.scu_role, c.scp_role) for c in agreed.values()] == [
        (False, True),
        (True, False),
        (True, False),
    ]


def test_roles_that_were_not_answered_are_the_default_ones() -> None:
    asked = request((CT, (EXPLICIT_VR_LE,)), roles=(Role(CT, scu=True, scp=True),))
    answered = answer(asked)
    assert isinstance(answered, AssociateAC)
    silent = dataclasses.replace(answered, user_information=UserInformation(0))
    assert [(c.scu_role, c.scp_role) for c in contexts_of(asked, silent).values()] == [(True, False)]


def test_the_answer_names_each_context_once_and_our_limits() -> None:
    asked = request((CT, (EXPLICIT_VR_LE,)), (WORKLIST, (EXPLICIT_VR_LE,)))
    answered = answer(asked)
    assert isinstance(answered, AssociateAC)
    assert [result.context_id for result in answered.results] == [1, 3]
    assert answered.user_information.max_pdu_length_bytes == 1 << 20
    assert (answered.called_ae, answered.calling_ae) == (asked.called_ae, asked.calling_ae)


def extended(*asked: tuple[str, bytes], contexts: tuple[str, ...]) -> AssociateRQ:
    items = tuple(ExtendedNegotiation(*item) for item in asked)
    plain = request(*((uid, (EXPLICIT_VR_LE,)) for uid in contexts))
    user_information = dataclasses.replace(plain.user_information, extended=items)
    return dataclasses.replace(plain, user_information=user_information)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (b"\1", b"\1"),
        (b"\0", b"\0"),
        (b"\1\1\1", b"\1\1\1"),
        (b"\1\1\1\1\1\1\1", b"\1\1\1\0\0\1\1"),
        (b"\0\0\1\0\1", b"\0\0\1\0\0"),
        (b"\1" * 20, b"\1\1\1\0\0\1\1"),
        (b"\2\xff", b"\0\0"),
        (b"", b""),
    ],
)
def test_what_is_asked_for_and_done_is_agreed_on_byte_by_byte(asked: bytes, told: bytes) -> None:
    find = extended((uids.STUDY_ROOT_FIND, asked), contexts=(uids.STUDY_ROOT_FIND, CT))
    answered = answer(find)
    assert isinstance(answered, AssociateAC)
    assert answered.user_information.extended == (ExtendedNegotiation(uids.STUDY_ROOT_FIND, told),)
    contexts = contexts_of(find, answered)
    assert (contexts[1].extended, contexts[3].extended) == (told, b"")


def test_retrieval_is_relational_and_nothing_else() -> None:
    get = extended((uids.STUDY_ROOT_GET, b"\1\1"), contexts=(uids.STUDY_ROOT_GET,))
    answered = answer(get)
    assert isinstance(answered, AssociateAC)
    assert answered.user_information.extended == (ExtendedNegotiation(uids.STUDY_ROOT_GET, b"\1"),)


def test_extensions_of_what_was_not_accepted_and_of_storage_are_not_answered() -> None:
    asked = extended((CT, b"\1"), (WORKLIST, b"\1"), (uids.STUDY_ROOT_FIND, b"\1"), contexts=(CT, WORKLIST))
    answered = answer(asked)
    assert isinstance(answered, AssociateAC)
    assert answered.user_information.extended == ()


def test_an_acceptor_that_agrees_to_more_than_was_asked_for_is_not_believed() -> None:
    asked = extended((uids.STUDY_ROOT_FIND, b"\0\1"), contexts=(uids.STUDY_ROOT_FIND,))
    answered = answer(asked)
    assert isinstance(answered, AssociateAC)
    more = dataclasses.replace(
        answered.user_information, extended=(ExtendedNegotiation(uids.STUDY_ROOT_FIND, b"\1\1\1"),)
    )
    answered = dataclasses.replace(answered, user_information=more)
    assert contexts_of(asked, answered)[1].extended == b"\0\1"


@given(st.binary(max_size=9), st.binary(max_size=9))
def test_an_extension_is_agreed_on_if_both_have_it(asked: bytes, offered: bytes) -> None:
    for extension in Extension:
        both = has(asked, extension) and has(offered, extension)
        assert has(agree(asked, offered), extension) == both
