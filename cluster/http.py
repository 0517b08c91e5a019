"""The status pages that each process serves: `/metrics`, `/healthz`, `/readyz`, `/status`, and `/leader`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web


@dataclass(frozen=True, slots=True)
class Pages:
    """What a process says of itself.

    `not_ready` returns why the process should get no new work, or None; `status` returns what
    `atria status` shows, as JSON values. `led_by` returns who leads instead, or None when this process does;
    without it, there is no `/leader`.
    """

    not_ready: Callable[[], str | None]
    status: Callable[[], Awaitable[Mapping[str, object]]]
    led_by: Callable[[], str | None] | None = None


class StatusServer:
    """An HTTP server for the status pages. It serves until it is closed."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (a free one when asked for 0).

        Raises
        ------
        OSError
            The address cannot be had.
        """
        from aiohttp import web

        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/status", self._status),
                *([web.get("/leader", self._leader)] if self._pages.led_by is not None else []),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, _: web.Request) -> web.Response:
        from aiohttp import web
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        from aiohttp import web

        reason = self._pages.not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def _leader(self, _: web.Request) -> web.Response:
        from aiohttp import web

        assert self._pages.led_by is not None
        leader = self._pages.led_by()
        return web.Response(text=f"{leader or 'this one'}\n", status=503 if leader else 200)

    async def _status(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response(dict(await self._pages.status()))
