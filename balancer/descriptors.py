"""How many associations the limit of file descriptors allows."""

from __future__ import annotations

import resource
from typing import Final

import structlog

from balancer.pipes import KEPT_PIPES, MOST_PIPES
from cluster.settings import TlsMode

log = structlog.get_logger()

DESCRIPTORS_EACH: Final = 3
"""Two sockets, and one connection whose request is not there yet."""
DESCRIPTORS_EACH_TLS: Final = DESCRIPTORS_EACH + 2 * 2
"""A pair of sockets for each of the two connections."""
ACCEPTED_AT_ONCE: Final = 64
DESCRIPTORS_OTHERWISE: Final = 64 + ACCEPTED_AT_ONCE + 2 * (MOST_PIPES + KEPT_PIPES)
"""Listeners, the status pages, the log, the registry, probes; connections that give way to others; pipes."""


def affordable(associations: int, tls: TlsMode) -> int:
    """Raise the limit of file descriptors as far as may be, and return how many associations it allows."""
    each = DESCRIPTORS_EACH_TLS if tls is TlsMode.ENDED else DESCRIPTORS_EACH
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_OTHERWISE + each * associations
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        allowed = (soft - DESCRIPTORS_OTHERWISE) // each
        log.warning("balancer.few_descriptors", wanted=wanted, limit=soft, associations=allowed)
        return max(1, allowed)
    return associations
