"""Certificates on disk, for whichever side of TLS: what is wrong with them, and whether they have changed."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

import structlog
from prometheus_client import Counter

log = structlog.get_logger()

RELOADS: Final = Counter("atria_tls_reloads_total", "Changed certificates that were read again", ["outcome"])

Made = TypeVar("Made")
Stamp: TypeAlias = tuple[int, int, int] | None
"""What tells a file from another in its place; None without one."""


class CertificatesUnusable(Exception):
    """A certificate, its key or the certificates of signers cannot be used. The message says which file."""


class Certificates(Generic[Made]):
    """What is made of certificates, as their files are now.

    Parameters
    ----------
    read : callable
        Reads them; raises `CertificatesUnusable`.
    *files : Path or None
        What it reads.

    Raises
    ------
    CertificatesUnusable
    """

    def __init__(self, read: Callable[[], Made], *files: Path | None) -> None:
        self._read = read
        self._files = files
        self._stamps = stamps(*files)
        self.made = read()

    def changed(self) -> bool:
        """Read files that are others than before, and tell whether they are used from now on.

        When they cannot be used, what was read before goes on: they may be replaced just now.
        """
        found = stamps(*self._files)
        if found == self._stamps:
            return False
        self._stamps = found
        try:
            self.made = self._read()
        except CertificatesUnusable as error:
            RELOADS.labels("failed").inc()
            log.warning("tls.not_reloaded", error=str(error))
            return False
        RELOADS.labels("done").inc()
        log.info("tls.reloaded", files=[str(file) for file in self._files if file is not None])
        return True


def stamps(*files: Path | None) -> tuple[Stamp, ...]:
    """Return what differs when one of the files has been written or replaced."""
    return tuple(_stamp(file) for file in files if file is not None)


def load_pair(context: ssl.SSLContext, table: str, certificate: Path, key: Path) -> None:
    """Let a context show a certificate.

    Parameters
    ----------
    context : ssl.SSLContext
    table : str
        Of the settings, where `certificate_file` and `key_file` stand.
    certificate, key : Path

    Raises
    ------
    CertificatesUnusable
    """
    for option, file in (("certificate_file", certificate), ("key_file", key)):
        _check_readable(f"{table}.{option}", file)
    try:
        # A password, though there is none: otherwise it would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise CertificatesUnusable(_why_no_pair(error, table, certificate, key)) from error


def load_signers(context: ssl.SSLContext, option: str, file: Path) -> None:
    """Let a context accept only who shows a certificate of these signers.

    Raises
    ------
    CertificatesUnusable
    """
    _check_readable(option, file)
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise CertificatesUnusable(f"{option} {file}: no certificate (PEM)") from error
    context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(option: str, file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise CertificatesUnusable(f"{option} {file} cannot be read: {error.strerror}") from error


def _why_no_pair(error: OSError, table: str, certificate: Path, key: Path) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"{table}.key_file {key} does not fit {table}.certificate_file {certificate}: give that one's key"
        )
    return (
        f"{table}.certificate_file {certificate} and {table}.key_file {key}: expected a certificate"
        f" and its key without a password, both PEM ({reason or error})"
    )


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
