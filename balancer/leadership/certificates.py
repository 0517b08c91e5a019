"""The link's certificates: both sides show one, of an authority that both know."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from cluster.certificates import Certificates, load_pair, load_signers
from cluster.settings import Link


@dataclass(frozen=True, slots=True)
class LinkContexts:
    """Both sides of the link."""

    client: ssl.SSLContext
    """For calling: the other side's certificate must name the balancer that is called."""
    server: ssl.SSLContext
    """For being called: who calls must show a certificate of the cluster."""


def link_certificates(link: Link) -> Certificates[LinkContexts]:
    """Read the certificates that the settings of a link name.

    Raises
    ------
    CertificatesUnusable
    """
    return Certificates(
        lambda: LinkContexts(
            _context(link, ssl.PROTOCOL_TLS_CLIENT), _context(link, ssl.PROTOCOL_TLS_SERVER)
        ),
        link.certificate_file,
        link.key_file,
        link.ca_file,
    )


def _context(link: Link, side: int) -> ssl.SSLContext:
    assert link.certificate_file is not None
    assert link.key_file is not None
    assert link.ca_file is not None
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_signers(context, "link.ca_file", link.ca_file)
    load_pair(context, "link", link.certificate_file, link.key_file)
    return context
