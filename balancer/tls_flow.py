"""The two directions of a connection whose TLS ends here."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from balancer.flow import Flow, Listener
from balancer.pipes import PipePool
from cluster.tls_session import TlsSession

READ_AT_ONCE_BYTES: Final = 256 * 1024
_RECORD_BYTES: Final = 18 * 1024
"""Longest record (RFC 5246 6.2.3); RFC 8446 5.2 allows less."""

_read = memoryview(bytearray(READ_AT_ONCE_BYTES))
_plain = memoryview(bytearray(READ_AT_ONCE_BYTES + _RECORD_BYTES))
"""Where all connections read and decrypt: what is not passed on within the same callback is taken out."""


class _TlsFlow(Flow):
    """One direction. What it reads last is known by `_over`, before the source's own end is seen."""

    def __init__(
        self,
        source: socket.socket,
        destination: socket.socket,
        pipes: PipePool,
        listener: Listener,
        session: TlsSession,
    ) -> None:
        super().__init__(source, destination, pipes, listener)
        self._session = session
        self._over = False

    def _push(self) -> None:
        super()._push()
        if self._over and self._reading:
            self.stop()
            self._listener.ended(None)


class Decrypted(_TlsFlow):
    """From the caller to the association."""

    def __init__(
        self,
        source: socket.socket,
        destination: socket.socket,
        pipes: PipePool,
        listener: Listener,
        session: TlsSession,
        answer: Callable[[], None],
    ) -> None:
        super().__init__(source, destination, pipes, listener, session)
        self._answer = answer

    def begin(self) -> None:
        """Start with what came along with the end of the handshake."""
        try:
            self._decrypt()
        except OSError as error:  # as when it comes later
            self.stop()
            self._listener.ended(error)
            return
        self._push()

    def _pull(self) -> int:
        count = self._source.recv_into(_read)
        if count:
            self._session.feed(_read[:count])
            self._decrypt()
        return count

    def _decrypt(self) -> None:
        try:
            self._copied = _plain[: self._session.read_into(_plain)]
            self._over = self._session.peer_ended
        finally:
            self._answer()  # to a change of keys, or by an alert


class Encrypted(_TlsFlow):
    """From the association to the caller."""

    def flush(self) -> None:
        """Send what TLS itself has to say: after what is in flight."""
        if not self._writing and not self._over:
            self._copied = memoryview(self._session.to_send())
            if self._copied:
                self._push()

    def _pull(self) -> int:
        count = self._source.recv_into(_read)
        if count:
            self._session.write(_read[:count])
        else:
            self._session.end()
            self._over = True
        self._copied = memoryview(self._session.to_send())
        return count or len(self._copied)
