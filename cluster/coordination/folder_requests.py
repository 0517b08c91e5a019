"""Requests on one host: a folder with a file for each."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import structlog

from cluster.coordination import request_json
from cluster.coordination.requests import Addressee, Request, RequestsUnavailable

log = structlog.get_logger()

POLL_INTERVAL_S: Final = 0.1
"""How often `incoming` looks: that costs one call that finds no file."""


class FolderRequests:
    """`Requests` in a folder of a local file system, made with the first of them.

    A request is put in its place, and taken from there, by a rename: so it is there whole, and taken once.

    Parameters
    ----------
    folder : Path
        Nothing else may be kept in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def ask(self, addressee: Addressee, name: str, request: Request) -> None:
        """See `Requests.ask`."""
        beside = self._beside()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(request_json.encode(request))
            beside.rename(self._file(addressee, name))
        except OSError as error:
            raise RequestsUnavailable(f"{self._folder}: {error.strerror or error}") from error

    async def waits(self, addressee: Addressee, name: str) -> bool:
        """See `Requests.waits`."""
        return self._file(addressee, name).exists()

    async def withdraw(self, addressee: Addressee, name: str) -> bool:
        """See `Requests.withdraw`."""
        try:
            self._file(addressee, name).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RequestsUnavailable(f"{self._folder}: {error.strerror or error}") from error
        return True

    async def incoming(self, addressee: Addressee, name: str) -> AsyncGenerator[Request]:
        """See `Requests.incoming`."""
        file = self._file(addressee, name)
        trouble = ""
        while True:
            try:
                request = self._take(file)
                trouble = ""
            except OSError as error:
                request = None
                if str(error) != trouble:
                    trouble = str(error)
                    log.warning("requests.unavailable", folder=str(self._folder), error=trouble)
            if request is None:
                await asyncio.sleep(POLL_INTERVAL_S)
            else:
                yield request

    def _take(self, file: Path) -> Request | None:
        taken = self._beside()
        try:
            os.rename(file, taken)  # noqa: PTH104  ten times a second, and nearly always in vain
        except FileNotFoundError:
            return None
        try:
            return request_json.decode(taken.read_bytes())
        except ValueError as error:
            log.warning("request.unreadable", file=str(file), error=str(error))
            return None
        finally:
            taken.unlink()

    def _file(self, addressee: Addressee, name: str) -> Path:
        return self._folder / f"{addressee}.{quote(name, safe='')}.json"

    def _beside(self) -> Path:
        return self._folder / f".{secrets.token_hex(8)}"
