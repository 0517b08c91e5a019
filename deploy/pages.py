"""Reads the status pages of the cluster's processes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cluster.coordination.registry import Address

_LIMIT_BYTES: Final = 16 * 1024 * 1024


class NoPage(Exception):
    """The process does not answer, or not with a page."""


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP response."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the JSON object that it is.

        Raises
        ------
        NoPage
            It is an error, or something else.
        """
        try:
            values = json.loads(self.body)
        except ValueError:
            values = None
        if self.status != HTTPStatus.OK or not isinstance(values, dict):
            raise NoPage(f"answered HTTP status {self.status}, and no JSON object")
        return values


async def fetch(address: Address, path: str, *, timeout_s: float = 5.0) -> Page:
    """Get one page, by HTTP/1.0: an HTTP client costs more to import than the page to read.

    Raises
    ------
    NoPage
        Nobody listens, or no whole answer came in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode("ascii"))
                answer = await reader.read(_LIMIT_BYTES)
                while chunk := await reader.read(_LIMIT_BYTES - len(answer)):
                    answer += chunk
            finally:
                writer.close()
    except TimeoutError as error:
        raise NoPage(f"{address} does not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise NoPage(f"{address} does not answer: {error.strerror or error}") from error
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise NoPage(f"{address}: not an HTTP response")
    return Page(int(words[1]), body)
