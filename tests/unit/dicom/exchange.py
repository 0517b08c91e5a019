"""What the tests of the upper layer are made of: PDUs as bytes, and an upper layer that has got so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.dicom import command_set
from cluster.dicom.associate import AssociateAC, AssociateRQ, ProposedItem, ResultItem, UserInformation
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.message import Fragmenter, ReceivedMessage
from cluster.dicom.pdu import PDU_HEADER, PDV_HEADER, PduType
from cluster.dicom.upper_layer import Indication, Role, UpperLayer

LIMITS = UpperLayerLimits(max_pdu_length_bytes=16384)
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LE = "1.2.840.10008.1.2.1"
REQUEST = AssociateRQ(
    "ATRIA",
    "SOMEBODY",
    (ProposedItem(1, CT, (EXPLICIT_VR_LE,)), ProposedItem(3, CT, ("1.2.840.10008.1.2",))),
    UserInformation(16384, "1.2.3"),
)
RESPONSE = AssociateAC(
    "ATRIA",
    "SOMEBODY",
    (ResultItem(1, 0, EXPLICIT_VR_LE), ResultItem(3, 4, EXPLICIT_VR_LE)),
    UserInformation(0),
)
STORE = CommandSet(
    CommandField.C_STORE_RQ,
    message_id=1,
    affected_sop_class_uid=CT,
    affected_sop_instance_uid="1.2.3",
    priority=0,
)
ECHO = CommandSet(CommandField.C_ECHO_RQ, message_id=2, affected_sop_class_uid="1.2.840.10008.1.1")


@dataclass(frozen=True)
class Message:
    """A message with its data set in one piece, so that two can be compared."""

    context_id: int
    command: CommandSet
    data_set: bytes | None


def pdv(data: bytes, control: int, context_id: int = 1) -> bytes:
    return PDV_HEADER.pack(len(data) + 2, context_id, control) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return PDU_HEADER.pack(PduType.P_DATA_TF, len(body)) + body


def message(command: CommandSet, data_set: bytes | None = None, max_pdu_length_bytes: int = 16384) -> bytes:
    pdus: list[bytes | bytearray | memoryview] = []
    parts = [(True, command_set.encode(command, has_data_set=data_set is not None))]
    if data_set is not None:
        parts.append((False, data_set))
    for is_command, data in parts:
        fragmenter = Fragmenter(1, is_command=is_command, max_pdu_length_bytes=max_pdu_length_bytes)
        pdus += fragmenter.add(data)
        pdus += fragmenter.finish()
    return b"".join(pdus)


def encoded(command: CommandSet, *, has_data_set: bool = False) -> bytes:
    return command_set.encode(command, has_data_set=has_data_set)


def comparable(events: Sequence[Indication]) -> list[object]:
    """Return events with each message's data set taken whole."""
    return [
        Message(
            event.context_id,
            event.command,
            None if event.data_set is None else b"".join(event.data_set.take(1 << 40)),
        )
        if isinstance(event, ReceivedMessage)
        else event
        for event in events
    ]


def sent(layer: UpperLayer) -> bytes:
    return b"".join(layer.to_send())


def acceptor(limits: UpperLayerLimits = LIMITS) -> UpperLayer:
    """Return an acceptor that waits for its A-ASSOCIATE-RQ (Sta2)."""
    layer = UpperLayer(Role.ACCEPTOR, limits)
    layer.transport_opened()
    return layer


def requestor() -> UpperLayer:
    """Return a requestor that waits for its answer (Sta5)."""
    layer = UpperLayer(Role.REQUESTOR, LIMITS)
    layer.request(REQUEST)
    layer.transport_opened()
    layer.to_send()
    return layer


def established(role: Role = Role.ACCEPTOR) -> UpperLayer:
    """Return one side of an established association (Sta6)."""
    if role is Role.ACCEPTOR:
        layer = acceptor()
        layer.receive(REQUEST.encode())
        layer.accept(RESPONSE)
    else:
        layer = requestor()
        layer.receive(RESPONSE.encode())
    layer.events()
    layer.to_send()
    return layer
