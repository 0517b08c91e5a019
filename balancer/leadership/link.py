"""How balancers talk with one another: JSON over HTTPS, with a certificate of the cluster on both sides.

Whoever is called must show a certificate that names it as a balancer (a DNS name), and so must who calls: the
name that it says must be one of those in its certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from balancer.leadership.certificates import LinkContexts
from balancer.leadership.interfaces import Handler, PeerUnavailable
from cluster.certificates import Certificates
from cluster.coordination.registry import Address

if TYPE_CHECKING:
    from aiohttp import ClientSession, web

log = structlog.get_logger()

MESSAGE_LIMIT_BYTES: Final = 64 * 1024
LOOK_INTERVAL_S: Final = 1.0
"""How often it is looked whether certificates have changed."""
CLOSING_S: Final = 1.0
"""How long answers that are under way are waited for at the end."""
BACKLOG: Final = 64


class LinkServer:
    """Answers other balancers until it is closed.

    Parameters
    ----------
    certificates : Certificates of LinkContexts
    handlers : mapping of str to Handler
        Who answers what.
    """

    def __init__(self, certificates: Certificates[LinkContexts], handlers: Mapping[str, Handler]) -> None:
        self._certificates = certificates
        self._handlers = handlers
        self._listener: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> Address:
        """Listen, and return where (with a free port when asked for 0).

        Raises
        ------
        OSError
            The address cannot be had.
        """
        from aiohttp import web

        app = web.Application(client_max_size=MESSAGE_LIMIT_BYTES)
        app.add_routes([web.post("/{what}", self._answer)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSING_S)
        await self._runner.setup()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        site = await self._listen()
        self._looking = asyncio.create_task(self._look(site))
        return Address(host, self._listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        if self._runner is not None:
            await self._runner.cleanup()
        if self._listener is not None:
            self._listener.close()

    async def _look(self, site: web.SockSite) -> None:
        """Follow the certificates. The socket stays, so that nobody finds it closed."""
        changed = False
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            changed = self._certificates.changed() or changed
            if not changed:
                continue
            try:
                former, site = site, await self._listen()
            except OSError as error:  # no file descriptor is left, say: the next look tries again
                log.warning("link.certificates_not_used", why=str(error))
                continue
            changed = False
            await former.stop()

    async def _listen(self) -> web.SockSite:
        from aiohttp import web

        assert self._runner is not None
        assert self._listener is not None
        site = web.SockSite(
            self._runner, self._listener.dup(), ssl_context=self._certificates.made.server, backlog=BACKLOG
        )
        await site.start()
        return site

    async def _answer(self, request: web.Request) -> web.Response:
        from aiohttp import web

        handler = self._handlers.get(request.match_info["what"])
        if handler is None:
            raise web.HTTPNotFound
        try:
            said = json.loads(await request.read())
            sender, body = str(said["from"]), said["body"]
            if sender not in _names(request):
                log.warning("link.not_who_it_says", says=sender, is_named=sorted(_names(request)))
                raise web.HTTPForbidden(text="your certificate does not name you so\n")
            return web.json_response(dict(await handler(sender, body)))
        except (ValueError, TypeError, KeyError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error


def _names(request: web.Request) -> set[str]:
    """Return the DNS names in the certificate of who calls (RFC 5280 4.2.1.6)."""
    certificate = request.get_extra_info("peercert") or {}
    return {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}


class LinkPeers:
    """The other balancers, over the link: `Peers`. A connection for each call, so that none can be stale.

    Parameters
    ----------
    name : str
        Of this balancer.
    certificates : Certificates of LinkContexts
    """

    def __init__(self, name: str, certificates: Certificates[LinkContexts]) -> None:
        self._name = name
        self._certificates = certificates
        self._session: ClientSession | None = None

    async def call(
        self, name: str, at: Address, what: str, body: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """See `Peers.call`."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        try:
            async with self._session.post(
                f"https://{at}/{what}",
                json={"from": self._name, "body": body},
                ssl=self._certificates.made.client,
                server_hostname=name,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                found = await answer.read()
                if answer.status != 200:
                    raise PeerUnavailable(
                        f"answers {answer.status}: {found.decode('utf-8', 'replace').strip()}"
                    )
                said = json.loads(found)
        except TimeoutError as error:
            raise PeerUnavailable(f"gives no answer at {at} within {timeout_s:g} s") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise PeerUnavailable(f"cannot be asked at {at}: {error}") from error
        if not isinstance(said, dict):
            raise PeerUnavailable(f"answers what is no JSON object at {at}")
        return said

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
