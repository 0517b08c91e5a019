"""How much room a MinIO server has left, which S3 has no word for.

MinIO tells it in its administrator's interface, to those who may ask. Where it is not MinIO, or they may
not, nothing is known, and a full server is found out by what it refuses.
"""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from storage_node.site.protocol import SiteUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage_node.site.s3_requests import S3Requests

AGE_S: Final = 2.0
"""How old an answer may be before it is asked for again; what MinIO says is a little older."""
AGE_UNTOLD_S: Final = 300.0
"""After how long a server that did not tell is asked again."""

_PATH: Final = "/minio/admin/v3/storageinfo"

log = structlog.get_logger()


class Space:
    """What one server last said of its room."""

    def __init__(self, requests: S3Requests, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._requests = requests
        self._monotonic = monotonic
        self._free_bytes: int | None = None
        self._good_until: float | None = None

    async def free_bytes(self) -> int | None:
        """Return how many bytes of objects it can take, or None if it does not tell.

        Raises
        ------
        SiteUnavailable
        """
        if self._good_until is None or self._monotonic() >= self._good_until:
            self._free_bytes = await self._ask()
            age_s = AGE_UNTOLD_S if self._free_bytes is None else AGE_S
            self._good_until = self._monotonic() + age_s
        return self._free_bytes

    def forget(self) -> None:
        """Ask again next time: something says that it is otherwise."""
        self._good_until = None

    async def _ask(self) -> int | None:
        answer = await self._requests.ask_server(_PATH)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SiteUnavailable(self._requests.site, f"its room is not told: {answer.status}")
        free_bytes = usable_bytes(answer.content) if answer.succeeded else None
        if free_bytes is None:
            log.info("site.room_not_told", site=self._requests.site, status=answer.status)
        return free_bytes


def usable_bytes(content: bytes) -> int | None:
    """Read how many bytes of objects fit, from a MinIO server's StorageInfo; None for anything else.

    An object goes to one erasure set, chosen by its key, and there to all drives: data on some, parity on the
    others. So the fullest drive of a pool says when the pool is full.
    """
    try:
        info = json.loads(content)
        of_data, of_all = info["Backend"]["StandardSCData"], info["Backend"]["DrivesPerSet"]
        free: dict[int, list[int]] = {}
        for drive in info["Disks"]:
            if drive["state"] == "ok":
                free.setdefault(drive["pool_index"], []).append(int(drive.get("availspace", 0)))
        usable = 0
        for pool, drives in free.items():
            usable += min(drives) * len(drives) * int(of_data[pool]) // int(of_all[pool])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError):
        return None
    return usable
