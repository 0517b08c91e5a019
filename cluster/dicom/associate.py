"""A-ASSOCIATE-RQ and -AC: how an association is asked for and accepted (PS3.8 9.3.2, 9.3.3, PS3.7 D.3.3).

Items of unknown types are skipped (PS3.8 9.3.1). A length that leaves its place, and a presentation
context ID that is even or comes twice, are the peer's fault.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cluster.dicom.extended import ExtendedNegotiation
from cluster.dicom.faults import AbortReason, FaultKind, RemoteProtocolError
from cluster.dicom.pdu import PDU_HEADER, PduType

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""DICOM Application Context Name (PS3.7 A.2.1)."""
PROTOCOL_VERSION: Final = 0x0001
_FIXED = struct.Struct(">H2x16s16s32x")
_ITEM = struct.Struct(">BxH")
_MAX_ITEM_BYTES = 0xFFFF

_APPLICATION_CONTEXT_ITEM = 0x10
_CONTEXT_RQ_ITEM = 0x20
_CONTEXT_AC_ITEM = 0x21
_ABSTRACT_SYNTAX_ITEM = 0x30
_TRANSFER_SYNTAX_ITEM = 0x40
_USER_INFORMATION_ITEM = 0x50
_MAXIMUM_LENGTH_ITEM = 0x51
_IMPLEMENTATION_CLASS_ITEM = 0x52
_ROLE_SELECTION_ITEM = 0x54
_IMPLEMENTATION_VERSION_ITEM = 0x55
_EXTENDED_NEGOTIATION_ITEM = 0x56


@dataclass(frozen=True, slots=True)
class Role:
    """SCP/SCU Role Selection: which roles the requestor has for a SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserInformation:
    """What both sides tell each other of themselves (PS3.8 9.3.2.3, PS3.7 D.3.3)."""

    max_pdu_length_bytes: int
    """Largest P-DATA-TF variable field that the sender of this receives; 0 for no limit (PS3.8 D.1.1)."""
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    roles: tuple[Role, ...] = ()
    extended: tuple[ExtendedNegotiation, ...] = ()


@dataclass(frozen=True, slots=True)
class ProposedItem:
    """One presentation context as it is asked for (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResultItem:
    """What became of one presentation context (PS3.8 9.3.3.2): result 0 is acceptance."""

    context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociateRQ:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    called_ae: str
    calling_ae: str
    contexts: tuple[ProposedItem, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION

    def encode(self) -> bytes:
        """Return the whole PDU."""
        items = b"".join(
            _item(
                _CONTEXT_RQ_ITEM,
                struct.pack(">B3x", context.context_id)
                + _uid_item(_ABSTRACT_SYNTAX_ITEM, context.abstract_syntax)
                + b"".join(_uid_item(_TRANSFER_SYNTAX_ITEM, uid) for uid in context.transfer_syntaxes),
            )
            for context in self.contexts
        )
        return _associate(PduType.ASSOCIATE_RQ, self, items)


@dataclass(frozen=True, slots=True)
class AssociateAC:
    """A-ASSOCIATE-AC (PS3.8 9.3.3). The AE titles are those of the A-ASSOCIATE-RQ, and are never tested."""

    called_ae: str
    calling_ae: str
    results: tuple[ResultItem, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION

    @property
    def accepted_ids(self) -> frozenset[int]:
        """The presentation contexts that were accepted."""
        return frozenset(result.context_id for result in self.results if result.result == 0)

    def encode(self) -> bytes:
        """Return the whole PDU."""
        items = b"".join(
            _item(
                _CONTEXT_AC_ITEM,
                struct.pack(">BxBx", result.context_id, result.result)
                + _uid_item(_TRANSFER_SYNTAX_ITEM, result.transfer_syntax),
            )
            for result in self.results
        )
        return _associate(PduType.ASSOCIATE_AC, self, items)


def decode_associate_rq(body: bytes) -> AssociateRQ:
    """Read an A-ASSOCIATE-RQ from what follows its PDU header.

    Raises
    ------
    RemoteProtocolError
    """
    version, called_ae, calling_ae, items = _split(body)
    contexts: dict[int, ProposedItem] = {}
    for kind, value in items:
        if kind == _CONTEXT_RQ_ITEM:
            context_id, sub_items = _context(value)
            if context_id % 2 == 0 or context_id in contexts:
                raise _fault("presentation context IDs are not odd numbers of their own each")
            syntaxes = list(_items(sub_items))
            abstract = next((_text(uid) for kind, uid in syntaxes if kind == _ABSTRACT_SYNTAX_ITEM), "")
            transfer = tuple(_text(uid) for kind, uid in syntaxes if kind == _TRANSFER_SYNTAX_ITEM)
            contexts[context_id] = ProposedItem(context_id, abstract, transfer)
    return AssociateRQ(
        called_ae=called_ae,
        calling_ae=calling_ae,
        contexts=tuple(contexts.values()),
        user_information=_user_information(items),
        application_context=_application_context(items),
        protocol_version=version,
    )


def decode_associate_ac(body: bytes) -> AssociateAC:
    """Read an A-ASSOCIATE-AC from what follows its PDU header.

    Raises
    ------
    RemoteProtocolError
    """
    version, called_ae, calling_ae, items = _split(body)
    results = []
    for kind, value in items:
        if kind == _CONTEXT_AC_ITEM:
            context_id, sub_items = _context(value)
            uids = (_text(uid) for kind, uid in _items(sub_items) if kind == _TRANSFER_SYNTAX_ITEM)
            results.append(ResultItem(context_id, value[2], next(uids, "")))
    return AssociateAC(
        called_ae=called_ae,
        calling_ae=calling_ae,
        results=tuple(results),
        user_information=_user_information(items),
        application_context=_application_context(items),
        protocol_version=version,
    )


def _split(body: bytes) -> tuple[int, str, str, list[tuple[int, bytes]]]:
    if len(body) < _FIXED.size:
        raise RemoteProtocolError(
            FaultKind.PDU_LENGTH,
            AbortReason.INVALID_PDU_PARAMETER,
            f"A-ASSOCIATE of {len(body)} bytes, expected at least {_FIXED.size}",
        )
    version, called_ae, calling_ae = _FIXED.unpack_from(body)
    return version, _text(called_ae), _text(calling_ae), list(_items(body[_FIXED.size :]))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        if offset + _ITEM.size > len(data):
            raise _fault("an item's header is cut short")
        kind, length = _ITEM.unpack_from(data, offset)
        offset += _ITEM.size
        if offset + length > len(data):
            raise _fault(f"item {kind:02X}H of {length} bytes leaves its place")
        yield kind, data[offset : offset + length]
        offset += length


def _context(value: bytes) -> tuple[int, bytes]:
    if len(value) < 4:
        raise _fault("a presentation context item is cut short")
    return value[0], value[4:]


def _application_context(items: list[tuple[int, bytes]]) -> str:
    return next((_text(value) for kind, value in items if kind == _APPLICATION_CONTEXT_ITEM), "")


def _user_information(items: list[tuple[int, bytes]]) -> UserInformation:
    data = next((value for kind, value in items if kind == _USER_INFORMATION_ITEM), b"")
    # Without a Maximum Length item there is no limit: it is the peer that would have set one.
    max_length, class_uid, version_name = 0, "", ""
    roles: list[Role] = []
    extended: list[ExtendedNegotiation] = []
    for kind, value in _items(data):
        if kind == _MAXIMUM_LENGTH_ITEM:
            if len(value) != 4:
                raise _fault(f"Maximum Length item of {len(value)} bytes, expected 4")
            max_length = int.from_bytes(value, "big")
        elif kind == _IMPLEMENTATION_CLASS_ITEM:
            class_uid = _text(value)
        elif kind == _IMPLEMENTATION_VERSION_ITEM:
            version_name = _text(value)
        elif kind == _ROLE_SELECTION_ITEM:
            roles.append(_role(value))
        elif kind == _EXTENDED_NEGOTIATION_ITEM:
            extended.append(_extended(value))
    return UserInformation(max_length, class_uid, version_name, tuple(roles), tuple(extended))


def _role(value: bytes) -> Role:
    uid_length = int.from_bytes(value[:2], "big")
    if len(value) != uid_length + 4:
        raise _fault("a role selection item's UID does not fit it")
    return Role(_text(value[2:-2]), scu=value[-2] == 1, scp=value[-1] == 1)


def _extended(value: bytes) -> ExtendedNegotiation:
    end = 2 + int.from_bytes(value[:2], "big")
    if len(value) < max(end, 2):
        raise _fault("an extended negotiation item's UID does not fit it")
    return ExtendedNegotiation(_text(value[2:end]), value[end:])


def _text(value: bytes) -> str:
    """Read a UID, an AE title or a name: padding is not significant, what is no ISO 646 becomes `?`."""
    return value.strip(b"\0 ").decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")


def _fault(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(FaultKind.ASSOCIATE, AbortReason.INVALID_PDU_PARAMETER, what)


def _associate(kind: PduType, pdu: AssociateRQ | AssociateAC, contexts: bytes) -> bytes:
    fixed = _FIXED.pack(pdu.protocol_version, _ae_title(pdu.called_ae), _ae_title(pdu.calling_ae))
    body = b"".join(
        (
            fixed,
            _uid_item(_APPLICATION_CONTEXT_ITEM, pdu.application_context),
            contexts,
            _item(_USER_INFORMATION_ITEM, _encode_user_information(pdu.user_information)),
        )
    )
    return PDU_HEADER.pack(kind, len(body)) + body


def _encode_user_information(user: UserInformation) -> bytes:
    items = [
        _item(_MAXIMUM_LENGTH_ITEM, struct.pack(">I", user.max_pdu_length_bytes)),
        _uid_item(_IMPLEMENTATION_CLASS_ITEM, user.implementation_class_uid),
    ]
    for role in user.roles:
        uid = role.sop_class_uid.encode("ascii")
        value = struct.pack(f">H{len(uid)}sBB", len(uid), uid, role.scu, role.scp)
        items.append(_item(_ROLE_SELECTION_ITEM, value))
    for extended in user.extended:
        uid = extended.sop_class_uid.encode("ascii")
        value = struct.pack(f">H{len(uid)}s", len(uid), uid) + extended.information
        items.append(_item(_EXTENDED_NEGOTIATION_ITEM, value))
    if user.implementation_version_name:
        items.append(_uid_item(_IMPLEMENTATION_VERSION_ITEM, user.implementation_version_name))
    return b"".join(items)


def _uid_item(kind: int, uid: str) -> bytes:
    return _item(kind, uid.encode("ascii"))


def _item(kind: int, value: bytes) -> bytes:
    assert len(value) <= _MAX_ITEM_BYTES
    return _ITEM.pack(kind, len(value)) + value


def _ae_title(title: str) -> bytes:
    return title.encode("ascii", "replace")[:16].ljust(16)
