"""Whose certificates are trusted to name an S3 service's server."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from storage_node.site.protocol import SiteUnavailable

if TYPE_CHECKING:
    from storage_node.site.s3_location import S3Location


def trust(site: str, location: S3Location) -> ssl.SSLContext | None:
    """Return what TLS connections to a service are made with; None when it is reached without.

    Raises
    ------
    SiteUnavailable
        The file of certificates cannot be used.
    """
    if not location.secure:
        return None
    try:
        return ssl.create_default_context(cafile=None if location.ca_file is None else str(location.ca_file))
    except (OSError, ValueError) as error:
        raise SiteUnavailable(site, f"ca_file: {location.ca_file} cannot be used: {error}") from error
