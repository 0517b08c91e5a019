"""Requests on several hosts: keys of a `Coordination`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog

from cluster.coordination import request_json
from cluster.coordination.protocol import Compacted, Conflict, Coordination, CoordinationUnavailable
from cluster.coordination.requests import Addressee, Request, RequestsUnavailable

log = structlog.get_logger()

PREFIX: Final = "requests/"
RETRY_S: Final = 1.0
"""How long nobody is asked after the store did not answer."""


class StoredRequests:
    """`Requests` that all those share who reach the store.

    Parameters
    ----------
    coordination : Coordination
    """

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    async def ask(self, addressee: Addressee, name: str, request: Request) -> None:
        """See `Requests.ask`."""
        try:
            await self._coordination.put(_key(addressee, name), request_json.encode(request))
        except CoordinationUnavailable as error:
            raise RequestsUnavailable(str(error)) from error

    async def waits(self, addressee: Addressee, name: str) -> bool:
        """See `Requests.waits`."""
        key = _key(addressee, name)
        try:
            return key in (await self._coordination.read(key)).entries
        except CoordinationUnavailable as error:
            raise RequestsUnavailable(str(error)) from error

    async def withdraw(self, addressee: Addressee, name: str) -> bool:
        """See `Requests.withdraw`."""
        try:
            return await self._take(_key(addressee, name)) is not None
        except CoordinationUnavailable as error:
            raise RequestsUnavailable(str(error)) from error

    async def incoming(self, addressee: Addressee, name: str) -> AsyncGenerator[Request]:
        """See `Requests.incoming`."""
        key = _key(addressee, name)
        said = False
        while True:
            try:
                value = await self._take(key)
                said = False
                if value is None:
                    await self._written(key)
                    continue
            except CoordinationUnavailable as error:
                if not said:
                    log.warning("requests.unavailable", key=key, error=str(error))
                said = True
                await asyncio.sleep(RETRY_S)
                continue
            try:
                yield request_json.decode(value)
            except ValueError as error:
                log.warning("request.unreadable", key=key, error=str(error))

    async def _take(self, key: str) -> bytes | None:
        """Take what waits, if something does, and nobody else was quicker.

        A store that did not say whether it deleted the key may have done so: the request is lost then, and
        whoever asked sees that nothing came of it.
        """
        while True:
            entry = (await self._coordination.read(key)).entries.get(key)
            if entry is None:
                return None
            try:
                await self._coordination.delete(key, expected=entry.changed)
            except Conflict:
                continue
            return entry.value

    async def _written(self, key: str) -> None:
        """Wait until the key is written, or may have been."""
        snapshot = await self._coordination.read(key)
        if key in snapshot.entries:
            return
        async with aclosing(self._coordination.watch(key, snapshot.revision)) as watch:
            try:
                async for changes in watch:
                    if any(change.key == key and change.entry is not None for change in changes):
                        return
            except Compacted:
                return


def _key(addressee: Addressee, name: str) -> str:
    return f"{PREFIX}{addressee}/{name}"
