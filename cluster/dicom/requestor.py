"""Asking for associations (PS3.8 7.1, 9.1.1)."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.dicom import negotiation
from cluster.dicom.account import OUTCOMES
from cluster.dicom.associate import (
    AssociateAC,
    AssociateRQ,
    ProposedItem,
    UserInformation,
)
from cluster.dicom.associate import Role as RoleItem
from cluster.dicom.association import Association
from cluster.dicom.extended import ExtendedNegotiation
from cluster.dicom.faults import Ending, LocalProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.pdu import PDV_OVERHEAD_BYTES, AssociateRJ
from cluster.dicom.transport import Connection
from cluster.dicom.upper_layer import Role

_CONTEXTS: Final = 128
"""Presentation context IDs are the odd numbers of a byte (PS3.8 9.3.2.2)."""
_HOLDING_NOTHING: Final = range(1, PDV_OVERHEAD_BYTES + 1)
"""Maximum lengths that leave no room for data; 0 stands for any length (PS3.8 D.1.1)."""


class AssociationRejected(Exception):
    """The peer has rejected the association (PS3.8 9.3.4)."""

    def __init__(self, rejection: AssociateRJ) -> None:
        super().__init__(str(rejection))
        self.result = rejection.result
        self.source = rejection.source
        self.reason = rejection.reason

    @property
    def is_permanent(self) -> bool:
        """Whether the same request would be rejected again (PS3.8 9.3.4)."""
        return self.result == 1


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context that is asked for, and in which roles (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scu_role: bool = True
    scp_role: bool = False
    extended: bytes = b""
    """What is asked for beyond the baseline of the SOP class: a field of `cluster.dicom.extended`."""


async def connect(
    host: str,
    port: int,
    *,
    calling_ae: str,
    called_ae: str,
    contexts: Sequence[ProposedContext],
    limits: UpperLayerLimits,
    sock: socket.socket | None = None,
    is_probe: bool = False,
) -> Association:
    """Connect to a peer and negotiate an association.

    Contexts that the peer does not accept are missing from the association's; all of them may be.

    Parameters
    ----------
    host, port
        Where the peer listens.
    calling_ae, called_ae : str
        AE titles, ours and the peer's.
    contexts : sequence of ProposedContext
        1 to 128.
    limits : UpperLayerLimits
        `connect_timeout_s` for the connection, `artim_timeout_s` for the answer.
    sock : socket.socket, optional
        A connection to the peer that is there already; it is closed with the association.
    is_probe : bool, optional
        Whether it is only looked whether the peer is well, and that every few seconds.

    Raises
    ------
    AssociationRejected
    AssociationEnded
        The peer aborted, closed the connection, does not answer, or broke the protocol.
    OSError
        The connection could not be had, also when it took too long (`TimeoutError`).
    LocalProtocolError
        There are no contexts, or too many.
    """
    if not 1 <= len(contexts) <= _CONTEXTS:
        raise LocalProtocolError(f"{len(contexts)} presentation contexts, expected 1 to {_CONTEXTS}")
    request = _request(calling_ae, called_ae, contexts, limits)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limits.connect_timeout_s):
        _, connection = await loop.create_connection(
            lambda: _RequestorConnection(limits, request, f"{host}:{port}", is_probe=is_probe),
            **({"host": host, "port": port} if sock is None else {"sock": sock}),
        )
    try:
        async with asyncio.timeout(limits.artim_timeout_s):
            await connection.until(connection.is_answered)
    except TimeoutError:
        connection.time_out("associate_timeout", "no answer to the A-ASSOCIATE-RQ in time")
        connection.hang_up()
        connection.check()
    except asyncio.CancelledError:
        connection.abort()
        connection.hang_up()
        raise
    answer = connection.answer
    if isinstance(answer, AssociateRJ):
        await connection.closed()
        raise AssociationRejected(answer)
    assert answer is not None
    peer_max = answer.user_information.max_pdu_length_bytes
    if peer_max in _HOLDING_NOTHING:
        connection.abort(
            Ending.PROTOCOL_ERROR, f"the peer takes PDUs of {peer_max} bytes, which hold nothing"
        )
        connection.hang_up()
        connection.check()
    return Association(connection, Role.REQUESTOR, negotiation.contexts_of(request, answer), peer_max)


class _RequestorConnection(Connection):
    def __init__(self, limits: UpperLayerLimits, request: AssociateRQ, peer: str, *, is_probe: bool) -> None:
        super().__init__(Role.REQUESTOR, limits)
        self.is_probe = is_probe
        self.association_id = uuid.uuid4().hex
        self.calling_ae = request.calling_ae
        self.called_ae = request.called_ae
        self.source = peer
        self.answer: AssociateAC | AssociateRJ | None = None
        self.upper_layer.request(request)

    def associate(self, pdu: AssociateRQ | AssociateAC | AssociateRJ) -> None:
        assert not isinstance(pdu, AssociateRQ)
        self.answer = pdu
        if isinstance(pdu, AssociateRJ):
            OUTCOMES.labels(role=Role.REQUESTOR, outcome="rejected").inc()
            self.end(Ending.ABORTED, str(pdu))
        elif pdu.user_information.max_pdu_length_bytes not in _HOLDING_NOTHING:
            self.establish()  # before its end is told of, which may have come along

    def is_answered(self) -> bool:
        return self.answer is not None


def _request(
    calling_ae: str, called_ae: str, contexts: Sequence[ProposedContext], limits: UpperLayerLimits
) -> AssociateRQ:
    roles = {
        context.abstract_syntax: RoleItem(context.abstract_syntax, context.scu_role, context.scp_role)
        for context in contexts
        if (context.scu_role, context.scp_role) != (True, False)
    }
    extended = {context.abstract_syntax: context.extended for context in contexts if context.extended}
    return AssociateRQ(
        called_ae=called_ae,
        calling_ae=calling_ae,
        contexts=tuple(
            ProposedItem(2 * index + 1, context.abstract_syntax, context.transfer_syntaxes)
            for index, context in enumerate(contexts)
        ),
        user_information=UserInformation(
            max_pdu_length_bytes=limits.max_pdu_length_bytes,
            implementation_class_uid=negotiation.IMPLEMENTATION_CLASS_UID,
            implementation_version_name=negotiation.IMPLEMENTATION_VERSION_NAME,
            roles=tuple(roles.values()),
            extended=tuple(ExtendedNegotiation(*item) for item in extended.items()),
        ),
    )
