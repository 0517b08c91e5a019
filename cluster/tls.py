"""TLS for those who call us: certificates are read again when their files change.

What is negotiated follows the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12),
and with it the retired B.9 and B.10: TLS 1.2 or 1.3, and of TLS 1.2 only cipher suites with forward secrecy
and authenticated encryption (RFC 9325 4.2).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from prometheus_client import Counter

from cluster.settings import Tls

log = structlog.get_logger()

RELOADS = Counter("atria_tls_reloads_total", "Changed certificates that were read again", ["outcome"])

LOOK_INTERVAL_S: Final = 1.0
"""How often it is looked whether a file has changed, at most."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""Cipher suites of TLS 1.2. Those with DHE are left out: RFC 9325 4.2 discourages them."""

_Stamp: TypeAlias = tuple[int, int, int] | None


class CertificatesUnusable(Exception):
    """The certificate, its key or the certificates of callers' signers cannot be used."""


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
        self._tls = tls
        self._now = now
        self._looked_at = now()
        self._stamps = self._look()
        self._context = server_context(tls)

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Where files have changed they are read; when they cannot be used, what was read before goes on.
        """
        now = self._now()
        if now - self._looked_at >= LOOK_INTERVAL_S:
            self._looked_at = now
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                self._read_again()
        return self._context

    def _read_again(self) -> None:
        try:
            self._context = server_context(self._tls)
        except CertificatesUnusable as error:
            RELOADS.labels("failed").inc()
            log.warning("tls.not_reloaded", error=str(error))
        else:
            RELOADS.labels("done").inc()
            log.info("tls.reloaded", certificate_file=str(self._tls.certificate_file))

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(
            _stamp(file)
            for file in (self._tls.certificate_file, self._tls.key_file, self._tls.client_ca_file)
            if file is not None
        )


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
    certificate, key = tls.certificate_file, tls.key_file
    for file in (certificate, key, tls.client_ca_file):
        if file is not None:
            _check_readable(file)
    try:
        # A password, though there is none: otherwise it would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise CertificatesUnusable(_why_no_pair(error, certificate, key)) from error
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except OSError as error:
            raise CertificatesUnusable(
                f"tls.client_ca_file {tls.client_ca_file}: no certificate (PEM)"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise CertificatesUnusable(f"{file} cannot be read: {error.strerror}") from error


def _why_no_pair(error: OSError, certificate: Path, key: Path) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"tls.key_file {key} does not fit tls.certificate_file {certificate}: give that one's key"
    return (
        f"tls.certificate_file {certificate} and tls.key_file {key}: expected a certificate and its key"
        f" without a password, both PEM ({reason or error})"
    )


def _stamp(file: Path) -> _Stamp:
    """Return what differs when a file has been written or replaced; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
