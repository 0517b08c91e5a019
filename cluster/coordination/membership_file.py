"""The last membership, on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from cluster.coordination import member_json
from cluster.coordination.registry import Load, Member
from cluster.durable import replace_durably

log = structlog.get_logger()

_INTERVAL_S: Final = 1.0
"""Between two writes."""


class MembershipFile:
    """A file that one process writes, and reads when it starts again.

    Parameters
    ----------
    file : Path
        Made when it is first written, with the folders above it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._written: list[Member] | None = None
        self._wanted: list[Member] = []
        self._writing: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return str(self._file)

    async def read(self) -> list[Member] | None:
        """Return who was there last; None where nothing usable was written."""
        try:
            return member_json.decode_all(await asyncio.to_thread(self._file.read_bytes))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("membership.unreadable", file=str(self._file), error=str(error))
            return None

    def keep(self, members: Sequence[Member]) -> None:
        """Have a membership written soon, if it differs from what is written in more than its load."""
        self._wanted = [replace(member, load=Load()) for member in members]
        if self._wanted != self._written and self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Wait until what was to be kept is written."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            self._writing = None
        if self._wanted and self._wanted != self._written:
            await self._write_once()

    async def _write(self) -> None:
        try:
            while self._wanted != self._written:
                await self._write_once()
                await asyncio.sleep(_INTERVAL_S)
        finally:
            self._writing = None

    async def _write_once(self) -> None:
        wanted = self._wanted
        try:
            await asyncio.to_thread(self._replace, member_json.encode_all(wanted))
        except OSError as error:
            log.warning("membership.not_kept", file=str(self._file), error=str(error))
        self._written = wanted

    def _replace(self, data: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(self._file, data.decode("utf-8"))
