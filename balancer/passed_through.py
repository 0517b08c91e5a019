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
"""Of plaintext, as the first record is (RFC 8446 5.1)."""
_READ_AT_ONCE_BYTES: Final = 64 * 1024


class ClientHelloReader:
    """Reads TLS's first record, without a look at what it says: so that one who is silent costs no worker."""

    def __init__(self) -> None:
        self._record = bytearray()
        self._total_bytes = _RECORD_HEADER_BYTES

    @property
    def received_bytes(self) -> int:
        """How much has come."""
        return len(self._record)

    @property
    def needed_bytes(self) -> int:
        """How many more bytes may be fed now."""
        return self._total_bytes - len(self._record)

    def feed(self, data: bytes) -> AssociateRq | None:
        """Take bytes, at most `needed_bytes` of them.

        Returns
        -------
        AssociateRq or None
            The record, from nobody to nobody; None while it is not complete.

        Raises
        ------
        NotAnAssociateRq
            It is no record of a handshake.
        """
        self._record += data
        if self._record[0] != HANDSHAKE:
            raise NotAnAssociateRq("no TLS, on a port for it", AbortReason.UNRECOGNIZED_PDU)
        if len(self._record) == _RECORD_HEADER_BYTES == self._total_bytes:
            length = int.from_bytes(self._record[3:], "big")
            if not 0 < length <= _LONGEST_RECORD_BYTES:
                raise NotAnAssociateRq(f"TLS record of {length} bytes", AbortReason.INVALID_PDU_PARAMETER)
            self._total_bytes += length
            return None
        return None if self.needed_bytes else AssociateRq("", "", bytes(self._record))


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
