"""How many associations the limit of file descriptors allows."""

from __future__ import annotations

import resource
from typing import Final

import structlog

log = structlog.get_logger()

DESCRIPTORS_EACH: Final = 7
"""Two sockets and two pipes with two ends each; and one connection whose request is not there yet."""
DESCRIPTORS_OTHERWISE: Final = 64
"""Listeners, the status pages, the log, the registry, probes, idle pipes."""


def affordable(associations: int) -> int:
    """Raise the limit of file descriptors as far as may be, and return how many associations it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_OTHERWISE + DESCRIPTORS_EACH * associations
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        allowed = (soft - DESCRIPTORS_OTHERWISE) // DESCRIPTORS_EACH
        log.warning("balancer.few_descriptors", wanted=wanted, limit=soft, associations=allowed)
        return max(1, allowed)
    return associations
