"""Workers are drained, restarted and started again, one after another, while the cluster works on."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from cluster.coordination.requests import Request, RequestsUnavailable, Wish
from deploy import compose, pages
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.coordination.registry import Member
    from cluster.coordination.requests import Addressee, Requests
    from cluster.settings import Settings

HEARD_WITHIN_S: Final = 5.0
"""How long a worker, or who keeps it, may take to take a request."""
BACK_WITHIN_S: Final = 60.0
"""How long a worker may take from its end to being ready again."""
END_GRACE_S: Final = 15.0
"""How much longer than its drain limit a worker may take to end."""
_POLL_S: Final = 0.1


class Rolling:
    """What can be done with the workers of a cluster.

    Parameters
    ----------
    settings : Settings
    requests : Requests
        Where workers, and those who keep them, are asked.
    """

    def __init__(self, settings: Settings, requests: Requests) -> None:
        self._settings = settings
        self._requests = requests

    async def workers(self, names: Sequence[str] = ()) -> list[Member]:
        """Return those that run: these, each once, or all without any names.

        Raises
        ------
        UserError
            One of them does not run, or none does.
        """
        running = {member.name: member for member in await compose.members(self._settings, "worker")}
        if missing := [name for name in names if name not in running]:
            those = f"those that do: {', '.join(running)}" if running else "none does"
            raise UserError(f"no worker runs under the name {', '.join(missing)}: {those}")
        if not running:
            raise UserError("no worker runs: `atria status` shows what does")
        return [running[name] for name in dict.fromkeys(names)] if names else list(running.values())

    async def drain(self, worker: Member) -> None:
        """Have a worker take no new association, finish those that it has, and stay ended.

        Raises
        ------
        UserError
            It does not hear.
        """
        await self._ask("worker", worker.name, Request(Wish.DRAIN, worker.started_at))

    async def ended(self, worker: Member) -> None:
        """Wait until a worker that was asked to has ended.

        Raises
        ------
        UserError
            It has not, though its time is over.
        """
        limit_s = self._settings.drain_timeout_s + END_GRACE_S
        try:
            async with asyncio.timeout(limit_s):
                while await self._find(worker.name, worker) is not None:  # noqa: ASYNC110  a process is asked
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise UserError(f"{worker.name} has not ended within {limit_s:g} s: see its log") from None

    async def restart(self, worker: Member) -> Member:
        """Drain a worker, and wait until its successor is ready.

        Raises
        ------
        UserError
            It does not hear, or does not end, or does not come back.
        """
        await self._ask("worker", worker.name, Request(Wish.RESTART, worker.started_at))
        await self.ended(worker)
        return await self._ready(worker.name)

    async def start(self, name: str) -> Member:
        """Have a worker started again that was drained, and wait until it is ready.

        Raises
        ------
        UserError
            It runs, or nobody keeps it, or it does not come up.
        """
        if await self._find(name) is not None:
            raise UserError(f"{name} runs already")
        await self._ask("keeper", name, Request(Wish.START))
        return await self._ready(name)

    async def _ask(self, addressee: Addressee, name: str, request: Request) -> None:
        """Ask, and wait until the request was taken: one that nobody takes is taken back."""
        try:
            await self._requests.ask(addressee, name, request)
            for _ in range(round(HEARD_WITHIN_S / _POLL_S)):
                if not await self._requests.waits(addressee, name):
                    return
                await asyncio.sleep(_POLL_S)
            if not await self._requests.withdraw(addressee, name):
                return
        except RequestsUnavailable as error:
            raise UserError(f"cannot ask {name}: {error}") from error
        if addressee == "keeper":
            raise UserError(
                f"no `atria up` that runs keeps a worker of the name {name}: start it as it was started"
                " before (systemctl start atria-worker@…)"
            )
        raise UserError(f"{name} does not hear: it runs, and does not look for requests; see its log")

    async def _ready(self, name: str) -> Member:
        try:
            async with asyncio.timeout(BACK_WITHIN_S):
                while True:
                    worker = await self._find(name)
                    if worker is not None and await _is_ready(worker):
                        return worker
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise UserError(f"{name} is not ready after {BACK_WITHIN_S:g} s: see its log") from None

    async def _find(self, name: str, process: Member | None = None) -> Member | None:
        """Return the worker of a name, if it is there and, where one is given, still the same process."""
        for member in await compose.members(self._settings, "worker"):
            if member.name == name and (process is None or member.started_at == process.started_at):
                return member
        return None


async def _is_ready(worker: Member) -> bool:
    try:
        return (await pages.fetch(worker.http, "/readyz")).status == HTTPStatus.OK
    except pages.NoPage:
        return False
