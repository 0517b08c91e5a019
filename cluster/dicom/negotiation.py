"""What is accepted of what a requestor proposes: a pure function of the A-ASSOCIATE-RQ and a policy."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.dicom.associate import (
    APPLICATION_CONTEXT,
    PROTOCOL_VERSION,
    AssociateAC,
    AssociateRQ,
    ProposedItem,
    ResultItem,
    Role,
    UserInformation,
)
from cluster.dicom.extended import OFFERED, ExtendedNegotiation, agree
from cluster.dicom.pdu import PDV_OVERHEAD_BYTES, AssociateRJ
from cluster.dicom.transfer_syntaxes import IMPLICIT_VR_LE, choose_for_service, choose_for_storage
from cluster.dicom.uids import (
    LONGEST_UID,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)

IMPLEMENTATION_CLASS_UID: Final = "2.25.141313762004772271689352156468408860764"
IMPLEMENTATION_VERSION_NAME: Final = "ATRIA"

SERVICES: Final = frozenset(
    {
        VERIFICATION,
        PATIENT_ROOT_FIND,
        PATIENT_ROOT_MOVE,
        PATIENT_ROOT_GET,
        STUDY_ROOT_FIND,
        STUDY_ROOT_MOVE,
        STUDY_ROOT_GET,
    }
)
"""The services that are offered besides storage (PS3.4 annexes A and C)."""

_COMPOSITE_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
"""All SOP classes below it are stored (PS3.4 B.5), the retired ones too, whose name may be gone."""

ACCEPTANCE: Final = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """An accepted presentation context. The roles are the requestor's (PS3.7 D.3.3.4)."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    scu_role: bool = True
    scp_role: bool = False
    extended: bytes = b""
    """What was agreed on for its SOP class beyond the baseline: a field of `cluster.dicom.extended`."""


@dataclass(frozen=True, slots=True)
class AcceptancePolicy:
    """What an acceptor takes."""

    ae_title: str
    check_called_ae_title: bool = False
    calling_ae_titles: frozenset[str] | None = None
    """Who may call; None: everybody."""
    accept_unknown_storage: bool = True
    """Whether an abstract syntax that is no known service is taken as storage, known or not."""
    max_associations: int = 200
    services: frozenset[str] = SERVICES
    """Abstract syntaxes of the services that are offered besides storage."""
    extended: Mapping[str, bytes] = field(default_factory=lambda: OFFERED)
    """What is offered beyond the baseline, by SOP class."""
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME


def prepare() -> None:
    """Read the tables of SOP classes, 0.3 s of work, so that no requestor has to wait for it. Thread-safe."""
    _sop_classes()


def negotiate(
    request: AssociateRQ, policy: AcceptancePolicy, *, associations: int, max_pdu_length_bytes: int
) -> AssociateAC | AssociateRJ:
    """Answer a request for an association.

    Parameters
    ----------
    request : AssociateRQ
    policy : AcceptancePolicy
    associations : int
        How many there are already.
    max_pdu_length_bytes : int
        Largest P-DATA-TF variable field that we receive.
    """
    rejection = _rejection(request, policy, associations)
    if rejection is not None:
        return rejection
    results = tuple(_result(context, policy) for context in request.contexts)
    return AssociateAC(
        called_ae=request.called_ae,
        calling_ae=request.calling_ae,
        results=results,
        user_information=UserInformation(
            max_pdu_length_bytes=max_pdu_length_bytes,
            implementation_class_uid=policy.implementation_class_uid,
            implementation_version_name=policy.implementation_version_name,
            roles=_roles(request, results, policy),
            extended=_extended(request, results, policy),
        ),
    )


def contexts_of(request: AssociateRQ, response: AssociateAC) -> dict[int, PresentationContext]:
    """Return the presentation contexts that both sides agree on, by their ID.

    Without an answer to a role selection the roles are the default ones (PS3.7 D.3.3.4), and without one to
    an extended negotiation nothing is extended (PS3.7 D.3.3.5).
    """
    results = {result.context_id: result for result in response.results if result.result == ACCEPTANCE}
    proposed = {role.sop_class_uid: role for role in request.user_information.roles}
    answered = {role.sop_class_uid: role for role in response.user_information.roles}
    asked = {item.sop_class_uid: item.information for item in request.user_information.extended}
    extended = {item.sop_class_uid: item.information for item in response.user_information.extended}
    contexts = {}
    for item in request.contexts:
        result = results.get(item.context_id)
        if result is None:
            continue
        scu, scp = True, False
        ours, theirs = proposed.get(item.abstract_syntax), answered.get(item.abstract_syntax)
        if ours is not None and theirs is not None:
            scu, scp = ours.scu and theirs.scu, ours.scp and theirs.scp
        uid = item.abstract_syntax
        both = agree(asked.get(uid, b""), extended.get(uid, b""))
        contexts[item.context_id] = PresentationContext(
            item.context_id, uid, result.transfer_syntax, scu, scp, both
        )
    return contexts


def _rejection(request: AssociateRQ, policy: AcceptancePolicy, associations: int) -> AssociateRJ | None:
    """Return why the association as a whole is rejected (PS3.8 9.3.4), or None."""
    if not request.protocol_version & PROTOCOL_VERSION:
        return AssociateRJ(result=1, source=2, reason=2)
    if request.application_context != APPLICATION_CONTEXT:
        return AssociateRJ(result=1, source=1, reason=2)
    if policy.check_called_ae_title and request.called_ae != policy.ae_title:
        return AssociateRJ(result=1, source=1, reason=7)
    if policy.calling_ae_titles is not None and request.calling_ae not in policy.calling_ae_titles:
        return AssociateRJ(result=1, source=1, reason=3)
    takes = request.user_information.max_pdu_length_bytes
    if not request.contexts or 0 < takes <= PDV_OVERHEAD_BYTES:
        return AssociateRJ(result=1, source=1, reason=1)
    if associations >= policy.max_associations:
        return AssociateRJ(result=2, source=3, reason=2)
    return None


def _result(context: ProposedItem, policy: AcceptancePolicy) -> ResultItem:
    if context.abstract_syntax in policy.services:
        chosen = choose_for_service(context.transfer_syntaxes)
    elif _is_storage(context.abstract_syntax, policy):
        chosen = choose_for_storage(context.transfer_syntaxes)
    else:
        return _refused(context, ABSTRACT_SYNTAX_NOT_SUPPORTED)
    if chosen is None:
        return _refused(context, TRANSFER_SYNTAXES_NOT_SUPPORTED)
    return ResultItem(context.context_id, ACCEPTANCE, chosen)


def _refused(context: ProposedItem, result: int) -> ResultItem:
    # A transfer syntax has to be there, and is not to be tested (PS3.8 9.3.3.2).
    return ResultItem(context.context_id, result, next(iter(context.transfer_syntaxes), IMPLICIT_VR_LE))


def _is_storage(abstract_syntax: str, policy: AcceptancePolicy) -> bool:
    if not 0 < len(abstract_syntax) <= LONGEST_UID:
        return False  # taken, it might fill more of the answer than there is room for
    storage, others = _sop_classes()
    if policy.accept_unknown_storage:
        return abstract_syntax not in others
    return abstract_syntax in storage


def _roles(
    request: AssociateRQ, results: tuple[ResultItem, ...], policy: AcceptancePolicy
) -> tuple[Role, ...]:
    """Answer the role selections (PS3.7 D.3.3.4): as proposed for storage, for C-GET; else SCU only."""
    accepted = _accepted(request, results)
    proposed = {role.sop_class_uid: role for role in request.user_information.roles}
    return tuple(
        Role(uid, role.scu, role.scp and uid not in policy.services)
        for uid, role in proposed.items()
        if uid in accepted
    )


def _extended(
    request: AssociateRQ, results: tuple[ResultItem, ...], policy: AcceptancePolicy
) -> tuple[ExtendedNegotiation, ...]:
    """Answer what is asked for beyond the baseline of services, once for each SOP class (PS3.7 D.3.3.5)."""
    accepted = _accepted(request, results)
    asked = {item.sop_class_uid: item.information for item in request.user_information.extended}
    return tuple(
        ExtendedNegotiation(uid, agree(information, policy.extended[uid]))
        for uid, information in asked.items()
        if uid in accepted and uid in policy.extended
    )


def _accepted(request: AssociateRQ, results: tuple[ResultItem, ...]) -> frozenset[str]:
    """Return the abstract syntaxes of the accepted presentation contexts."""
    ids = {result.context_id for result in results if result.result == ACCEPTANCE}
    return frozenset(item.abstract_syntax for item in request.contexts if item.context_id in ids)


@functools.cache
def _sop_classes() -> tuple[frozenset[str], frozenset[str]]:
    """Return the SOP classes that are stored, and all else that PS3.6 registers.

    A service that is retired is not storage because nobody speaks it any more.
    """
    from pydicom._uid_dict import UID_dictionary
    from pynetdicom import sop_class

    stored = frozenset(sop_class._STORAGE_CLASSES.values()) | frozenset(
        sop_class._NON_PATIENT_OBJECT_CLASSES.values()
    )
    tables = [table for name, table in vars(sop_class).items() if name.endswith("_CLASSES")]
    known = frozenset(uid for table in tables for uid in table.values() if isinstance(uid, str))
    registered = frozenset(
        uid for uid, entry in UID_dictionary.items() if not _is_named_storage(uid, entry[0])
    )
    return stored, (known | registered) - stored


def _is_named_storage(uid: str, name: str) -> bool:
    words = name.split()
    is_storage = "Storage" in words and "Commitment" not in words and "Service" not in words
    return is_storage or uid.startswith(_COMPOSITE_STORAGE_ROOT)
