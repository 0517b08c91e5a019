"""TLS for those who call us: certificates are read again when their files change.

What is negotiated follows the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12),
and with it the retired B.9 and B.10: TLS 1.2 or 1.3, and of TLS 1.2 only cipher suites with forward secrecy
and authenticated encryption (RFC 9325 4.2).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Final

from cluster.certificates import Certificates, load_pair, load_signers
from cluster.settings import Tls

LOOK_INTERVAL_S: Final = 1.0
"""How often it is looked whether a file has changed, at most."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""Cipher suites of TLS 1.2. Those with DHE are left out: RFC 9325 4.2 discourages them."""


class ServerTls:
    """The context of connections that are accepted, as the files are now.

    Parameters
    ----------
    tls : Tls
        With a certificate and a key.
    now : callable, optional
        A monotonic clock, in seconds.

    Raises
    ------
    CertificatesUnusable
        The files are not such that anybody could be served.
    """

    def __init__(self, tls: Tls, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._looked_at = now()
        self._certificates = Certificates(
            lambda: server_context(tls), tls.certificate_file, tls.key_file, tls.client_ca_file
        )

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection. It is looked now and then whether files have changed."""
        now = self._now()
        if now - self._looked_at >= LOOK_INTERVAL_S:
            self._looked_at = now
            self._certificates.changed()
        return self._certificates.made


def server_context(tls: Tls) -> ssl.SSLContext:
    """Read the files, and return a context for connections that are accepted.

    Callers must show a certificate where `client_ca_file` is set. No tickets are sent over TLS 1.3: one that
    a caller leaves unread would have its connection reset, and what it sent last might be lost.

    Raises
    ------
    CertificatesUnusable
    """
    assert tls.certificate_file is not None
    assert tls.key_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    load_pair(context, "tls", tls.certificate_file, tls.key_file)
    if tls.client_ca_file is not None:
        load_signers(context, "tls.client_ca_file", tls.client_ca_file)
    return context
