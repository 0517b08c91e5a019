"""The server's side of one TLS connection. Sans-I/O: ciphertext on one side, plaintext on the other."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

from cluster.proxy_protocol import TlsOfClient

if TYPE_CHECKING:
    from collections.abc import Iterable


class TlsSession:
    """One connection's TLS, from the first byte of its handshake.

    Parameters
    ----------
    context : ssl.SSLContext
        Of a server.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.peer_ended = False
        """Whether the peer has said that it sends no more (close_notify, RFC 8446 6.1)."""

    def feed(self, ciphertext: bytes | memoryview) -> None:
        """Take what has come from the peer."""
        self._incoming.write(ciphertext)

    def shake_hands(self) -> bool:
        """Go on with the handshake; tell whether it is over.

        Raises
        ------
        ssl.SSLError
            It has failed. What is to be sent then says so to the peer.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read_into(self, room: memoryview) -> int:
        """Decrypt as much as has come, and return how many bytes that was.

        Parameters
        ----------
        room : memoryview
            Must not be empty. Where it is full, there may be more.

        Raises
        ------
        ssl.SSLError
            What came was tampered with, or is no TLS.
        """
        total = 0
        while total < len(room) and not self.peer_ended:
            try:
                # With room given, it returns a count: the type stubs know only the other way to call it.
                count = cast("int", self._tls.read(len(room) - total, room[total:]))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:  # instead of no bytes, once we have said that we send no more
                count = 0
            self.peer_ended = not count
            total += count
        return total

    def write(self, plaintext: memoryview) -> None:
        """Encrypt, for `to_send`.

        Raises
        ------
        ssl.SSLError
        """
        self._tls.write(plaintext)

    def end(self) -> None:
        """Say that we send no more (close_notify), for `to_send`."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # the peer has not said so yet, or says something else: neither is waited for
            return

    def to_send(self) -> bytes:
        """Return what is to be sent to the peer, once."""
        return self._outgoing.read()

    def described(self) -> TlsOfClient:
        """Return what a worker is told of it."""
        certificate = self._tls.getpeercert() or {}
        subject = cast("Iterable[Iterable[tuple[str, str]]]", certificate.get("subject", ()))
        return TlsOfClient(self._tls.version() or "", _common_name(subject))


def _common_name(subject: Iterable[Iterable[tuple[str, str]]]) -> str | None:
    """Return the subject's common name (RFC 5280 4.1.2.6), the most specific one where there are several."""
    names = [value for relative in subject for kind, value in relative if kind == "commonName"]
    return names[-1] if names else None
