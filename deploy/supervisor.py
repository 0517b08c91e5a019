"""The one-host start: all processes of a cluster as child processes, kept alive until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from cluster.coordination.registry import Address, RegistryUnavailable
from cluster.coordination.requests import Wish
from cluster.settings import TlsMode
from deploy import checks, compose, pages
from deploy.child import Child, atria
from deploy.errors import UserError
from deploy.site_servers import SiteServers
from deploy.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cluster.coordination.registry import Member
    from cluster.settings import Settings
    from deploy.overrides import Overrides
    from deploy.server import Server

_READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05
_END_GRACE_S: Final = 15.0
"""How much longer than its drain limit a process may take to end."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the cluster can be reached."""

    dicom: Address
    tls: Address | None
    """Where DICOM is spoken over TLS; None where it is not, or at any port that is free."""
    http: Address
    ae_title: str
    data_folder: Path


@contextlib.contextmanager
def sole_user(data_folder: Path) -> Iterator[None]:
    """Hold the data folder: one cluster runs in it at a time. The kernel lets go of it with the process.

    Raises
    ------
    UserError
        A cluster runs in it already, or it cannot be written.
    """
    file = data_folder / "lock"
    try:
        data_folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(
            f"cannot write the data folder {data_folder}: {error.strerror}: choose another (--data)"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode("ascii", "replace").strip()
            raise UserError(
                f"a cluster runs in {data_folder} already (process {holder}):"
                " end it, or choose another folder (--data)"
            ) from None
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}: make room, and start again") from error
        yield
    finally:
        os.close(handle)


class Supervisor:
    """Keeps one host's processes, from start until a signal.

    Parameters
    ----------
    settings : Settings
    overrides : Overrides
        The settings again, as child processes are told them.
    servers : mapping of str to Server
        The sites' own servers, by their names: started first, ended last.
    on_ready : callable
        Told once where the cluster is.
    """

    def __init__(
        self,
        settings: Settings,
        overrides: Overrides,
        servers: Mapping[str, Server],
        *,
        on_ready: Callable[[Ready], None],
    ) -> None:
        self._settings = settings
        self._overrides = overrides
        self._on_ready = on_ready
        self._registry = compose.registry(settings)
        self._servers = SiteServers(settings, servers)
        self._balancer = self._child("balancer", "balancer")
        self._workers = [self._child("worker", f"worker-{i + 1}") for i in range(settings.workers)]
        self._upkeep = self._child("upkeep", "upkeep")
        self._watchdog = Watchdog(self._registry, {child.name: child for child in self._children()})
        self._stop = asyncio.Event()
        self._cut_short = False

    async def run(self) -> bool:
        """Start everything, and keep it until SIGINT or SIGTERM. A second signal ends it at once.

        Returns
        -------
        bool
            Whether every association could finish.

        Raises
        ------
        UserError
            It could not be started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._wait_for_former_balancer()
            async with asyncio.TaskGroup() as group:
                await self._servers.start(group)
                await checks.at_start(self._settings)
                for child in self._children():
                    group.create_task(child.keep())
                watching = [
                    group.create_task(self._watch_start()),
                    group.create_task(self._watchdog.run()),
                    group.create_task(self._heed_requests()),
                ]
                await self._stop.wait()
                for task in watching:
                    task.cancel()
                await self._wind_down()
        except* UserError as errors:
            raise errors.exceptions[0] from None
        return not self._cut_short

    def _child(self, command: str, name: str) -> Child:
        return Child(
            name,
            lambda: atria(command, f"--name={name}", *self._overrides.arguments()),
            self._settings.logs_folder / f"{name}.log",
        )

    def _children(self) -> list[Child]:
        return [*self._workers, self._balancer, self._upkeep]

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            limit_s = self._settings.drain_timeout_s
            log.info("cluster.ending", associations_may_finish_s=limit_s, again="ends at once")
            return
        self._cut_short = True
        for child in self._children():
            child.kill()
        self._servers.kill()

    async def _wait_for_former_balancer(self) -> None:
        """Wait for one whose supervisor was killed: it holds its port until its associations are over."""
        said = False
        with contextlib.suppress(TimeoutError):  # then the port is in use, and the new balancer says so
            async with asyncio.timeout(self._settings.drain_timeout_s + _END_GRACE_S):
                while not self._stop.is_set() and await self._former_balancer():
                    if not said:
                        log.warning("cluster.waits", why="a former balancer lets its associations finish")
                        said = True
                    await asyncio.sleep(_POLL_S)

    async def _former_balancer(self) -> bool:
        members = await compose.members(self._settings, "balancer")
        return any(member.http.port == self._settings.http.port for member in members)

    async def _watch_start(self) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while (member := await self._ready_balancer()) is None:  # noqa: ASYNC110  a process is asked
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise UserError(
                f"not ready after {_READY_TIMEOUT_S:.0f} s: see {self._settings.logs_folder}"
            ) from None
        assert member.dicom is not None
        # A free port that was taken once is kept, so that a balancer that dies comes back at its address.
        self._overrides = replace(self._overrides, dicom_port=member.dicom.port, http_port=member.http.port)
        for child in self._children():
            child.has_started()
        tls = self._settings.tls
        self._on_ready(
            Ready(
                member.dicom,
                Address(member.dicom.host, tls.port) if tls.mode is not TlsMode.OFF and tls.port else None,
                member.http,
                self._settings.dicom.ae_title,
                self._settings.data_folder,
            )
        )

    async def _ready_balancer(self) -> Member | None:
        """Return the balancer once it has all the workers that there should be."""
        try:
            members = await self._registry.members()
            balancers = [member for member in members if member.kind == "balancer"]
            workers = [member for member in members if member.kind == "worker"]
            if not balancers or len(workers) < self._settings.workers:
                return None
            page = await pages.fetch(balancers[0].http, "/readyz")
        except (RegistryUnavailable, pages.NoPage):
            return None
        return balancers[0] if page.status == HTTPStatus.OK else None

    async def _heed_requests(self) -> None:
        """Start each worker again that was drained, when somebody asks for it."""

        async def heed(worker: Child) -> None:
            async for request in requests.incoming("keeper", worker.name):
                if request.wish is Wish.START:
                    worker.start_again()

        async with compose.requests(self._settings) as requests, asyncio.TaskGroup() as heeding:
            for worker in self._workers:
                heeding.create_task(heed(worker))

    async def _wind_down(self) -> None:
        """Who sends ends before who is sent to: the front door, who works behind it, the sites' servers."""
        limit_s = self._settings.drain_timeout_s + _END_GRACE_S
        await self._balancer.stop(limit_s)
        async with asyncio.TaskGroup() as group:
            for child in (*self._workers, self._upkeep):
                group.create_task(child.stop(limit_s))
        await self._servers.stop()
