"""A caller whose TLS a worker ends: who calls whom is not known here, and nothing can be said to it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Final

from balancer.associate_rq import AbortReason, AssociateRq, NotAnAssociateRq
from balancer.association import Association
from balancer.caller import Caller
from balancer.relay import End, Outcome, Passage
from balancer.tls import HANDSHAKE

_RECORD_HEADER_BYTES: Final = 5
_LONGEST_RECORD_BYTES: Final = 1 << 14
"""Of plaintext, as the first records are (RFC 8446 5.1)."""
_HELLO_HEADER_BYTES: Final = 4
_CLIENT_HELLO: Final = 1
_LONGEST_HELLO_BYTES: Final = 1 << 16
"""Far more than anybody says; RFC 8446 4 would allow 16 MiB."""
_READ_AT_ONCE_BYTES: Final = 64 * 1024


class ClientHelloReader:
    """Reads a ClientHello, without a look at what it offers: so that one who is silent costs no worker.

    It may come in several records (RFC 8446 5.1). A worker has nothing to answer before all are there.
    """

    def __init__(self) -> None:
        self._records = bytearray()
        self._begin = 0
        """Where the current record begins."""
        self._total_bytes = _RECORD_HEADER_BYTES
        self._hello = bytearray()

    @property
    def received_bytes(self) -> int:
        """How much has come."""
        return len(self._records)

    @property
    def needed_bytes(self) -> int:
        """How many more bytes may be fed now."""
        return self._total_bytes - len(self._records)

    def feed(self, data: bytes) -> AssociateRq | None:
        """Take bytes, at most `needed_bytes` of them.

        Returns
        -------
        AssociateRq or None
            The records, from nobody to nobody; None while they are not complete.

        Raises
        ------
        NotAnAssociateRq
            They are no records of a handshake, or too many.
        """
        self._records += data
        if self._records[self._begin : self._begin + 1] not in (b"", bytes((HANDSHAKE,))):
            raise NotAnAssociateRq("no TLS, on a port for it", AbortReason.UNRECOGNIZED_PDU)
        if self.needed_bytes:
            return None
        body = self._records[self._begin + _RECORD_HEADER_BYTES :]
        if not body:
            self._total_bytes += _record_length(self._records[self._begin :])
            return None
        self._hello += body
        if _is_whole(self._hello):
            return AssociateRq("", "", bytes(self._records))
        self._begin = self._total_bytes
        self._total_bytes += _RECORD_HEADER_BYTES
        return None


def _record_length(header: bytearray) -> int:
    length = int.from_bytes(header[3:], "big")
    if not 0 < length <= _LONGEST_RECORD_BYTES:
        raise NotAnAssociateRq(f"TLS record of {length} bytes", AbortReason.INVALID_PDU_PARAMETER)
    return length


def _is_whole(hello: bytearray) -> bool:
    """Tell whether nothing more is to come before there is an answer: of what is no ClientHello, nothing."""
    if hello[0] != _CLIENT_HELLO:
        return True
    if len(hello) < _HELLO_HEADER_BYTES:
        return False
    total_bytes = _HELLO_HEADER_BYTES + int.from_bytes(hello[1:_HELLO_HEADER_BYTES], "big")
    if total_bytes > _LONGEST_HELLO_BYTES:
        raise NotAnAssociateRq(f"ClientHello of {total_bytes} bytes", AbortReason.INVALID_PDU_PARAMETER)
    return len(hello) >= total_bytes


class PassedThrough(Association):
    """A connection that is relayed to a worker as it is, behind a PROXY protocol header.

    A refusal is a closed connection, and so is a worker's death: no PDU can be put in.
    """

    async def _serve(self) -> End:
        end = await super()._serve()
        outcome = Outcome.NO_TLS if end.outcome is Outcome.NO_ASSOCIATE_RQ else end.outcome
        return replace(end, outcome=outcome, last_words=b"")

    async def _first_answer(self, connection: socket.socket) -> bytes:
        """Return the worker's first bytes: those of its side of the handshake."""
        answer = await asyncio.get_running_loop().sock_recv(connection, _READ_AT_ONCE_BYTES)
        if not answer:
            raise ConnectionAbortedError("closed without an answer")
        return answer

    def _reader(self) -> ClientHelloReader:
        return ClientHelloReader()

    def _caller(self, request: AssociateRq) -> Caller:  # noqa: ARG002  it says nothing of who calls
        return Caller(self.source.address)

    def _relay_with(self, connection: socket.socket) -> Passage:
        silence_limit_s = self._limits().artim_timeout_s
        return Passage(self._client.socket, connection, self._hall.pipes, silence_limit_s=silence_limit_s)
