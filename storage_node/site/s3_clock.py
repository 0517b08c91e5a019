"""How far a site's clock is from ours: past some minutes S3 refuses requests, and its times mislead."""

from __future__ import annotations

from typing import Final

import structlog
from prometheus_client import Gauge

WARNED_OF_S: Final = 5.0
"""Past this a difference is worth a line in the log."""

_OFFSET = Gauge("atria_site_clock_offset_seconds", "How far the site's clock is ahead of ours", ["site"])

log = structlog.get_logger()


class ClockWatch:
    """Notes how far one site's clock is off, and says so once, until it is right again."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._is_off = False

    def note(self, offset_s: float | None) -> None:
        """Take a measurement, if there is one."""
        if offset_s is None:
            return
        _OFFSET.labels(site=self._site).set(offset_s)
        was_off, self._is_off = self._is_off, abs(offset_s) > WARNED_OF_S
        if self._is_off and not was_off:
            log.warning("site.clock_off", site=self._site, offset_s=round(offset_s, 1))
