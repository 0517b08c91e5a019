"""The link's certificates: both sides show one, and both are read again when the files change."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from cluster.settings import Link

log = structlog.get_logger()


class LinkUnusable(Exception):
    """The link's certificates cannot be used. The message says which file, and what was expected."""


class Certificates:
    """The contexts of both sides, as the files are now.

    Parameters
    ----------
    link : Link
        With certificates.

    Raises
    ------
    LinkUnusable
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stamps = self._look()
        self._contexts = self._read()

    @property
    def client(self) -> ssl.SSLContext:
        """For calling: the other side's certificate must name the balancer that is called."""
        return self._contexts[0]

    @property
    def server(self) -> ssl.SSLContext:
        """For being called: who calls must show a certificate of the cluster."""
        return self._contexts[1]

    def changed(self) -> bool:
        """Read files that are others than before, and tell whether they are used from now on."""
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            self._contexts = self._read()
        except LinkUnusable as error:  # a file may be replaced just now; what was read before goes on
            log.warning("link.certificates_not_read", why=str(error))
            return False
        log.info("link.certificates_read")
        return True

    def _read(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        link = self._link
        assert link.certificate_file is not None
        contexts = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        for context in contexts:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(link.ca_file)
            except OSError as error:
                raise LinkUnusable(f"link.ca_file {link.ca_file}: no certificates (PEM): {error}") from error
            try:
                # a password, though there is none: else it would be asked for at the terminal
                context.load_cert_chain(link.certificate_file, link.key_file, password="")
            except OSError as error:
                raise LinkUnusable(
                    f"link.certificate_file {link.certificate_file} and link.key_file {link.key_file}:"
                    f" expected a certificate and its key without a password, both PEM: {error}"
                ) from error
        return contexts

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(
            _stamp(file)
            for file in (self._link.certificate_file, self._link.key_file, self._link.ca_file)
            if file is not None
        )


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
