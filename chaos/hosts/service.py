"""One unit of a host, kept running as systemd would: started again whenever it has ended, until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.hosts.privileges import Privileges
from deploy.parent import die_with

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chaos.hosts.namespace import Namespace
    from chaos.hosts.story import Note
    from chaos.hosts.unit import Unit

_KILL_TIMEOUT_S: Final = 10.0
_FULL: Final = Privileges()
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""As systemd sets it (systemd.exec(5))."""


class Service:
    """One unit. It ends with us, however we end. To be used from the main thread: it ends with that, too.

    Parameters
    ----------
    unit : Unit
    namespace : Namespace
        Where it runs.
    log_file : Path
        Where its standard output and error go.
    environment : mapping of str to str
        What every unit of the host has besides its own.
    note : callable
        Takes what happens to it.
    """

    def __init__(
        self,
        unit: Unit,
        namespace: Namespace,
        log_file: Path,
        environment: Mapping[str, str],
        note: Note = lambda _: None,
    ) -> None:
        self.unit = unit
        self.log_file = log_file
        self._namespace = namespace
        self._note = note
        self._environment = {"PATH": _PATH, **environment, **unit.environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process, or None when there is none now; also while it is stopped by SIGSTOP."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def start(self) -> None:
        """Start it, and keep it running. Harmless when it runs."""
        if self._keeper is None or self._keeper.done():
            self._started.clear()
            self._keeper = asyncio.create_task(self._keep())
            await self._started.wait()

    async def stop(self) -> None:
        """Ask it to end, and wait for that; end it when it takes longer than its unit allows."""
        await self._end(self.unit.stop_signal, self.unit.stop_timeout_s)

    async def kill(self) -> None:
        """End it at once, with what it has started, and keep it so."""
        await self._end(signal.SIGKILL, _KILL_TIMEOUT_S)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to what it has started; after SIGKILL it is started again.

        Raises
        ------
        ProcessLookupError
            It does not run now.
        """
        if self.pid is None:
            raise ProcessLookupError(f"{self.unit.name} does not run")
        self._note(f"gets {number.name}")
        os.killpg(self.pid, number)

    async def _keep(self) -> None:
        while True:
            code = await self._life()
            self._started.set()  # and be it that what comes before it has failed
            if code in self.unit.stays_ended:
                return
            await asyncio.sleep(self.unit.restart_after_s)

    async def _life(self) -> int:
        """Start it once, and return the exit code with which it ended, or what has to come before it."""
        for command in self.unit.before:
            if (code := await self._run(self._launched(command, _FULL))) != 0:
                return code
        self._process = self._launched(self.unit.command, self.unit.privileges)
        self._started.set()
        self._note(f"is started: process {self._process.pid}")
        code = await self._run(self._process)
        self._note(f"has ended: {_how(code)}")
        return code

    async def _run(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return await _ended(process)
        finally:
            _kill_group(process.pid)

    def _launched(self, command: Sequence[str], privileges: Privileges) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log, self._namespace.entered():
            return subprocess.Popen(  # noqa: S603  what the unit names
                privileges.command(*command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                umask=privileges.umask,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), signal.SIGKILL),
            )

    async def _end(self, number: signal.Signals, limit_s: float) -> None:
        keeper, process = self._keeper, self._process
        if keeper is None:
            return
        self._keeper = None
        if process is not None and process.poll() is None:
            self._note(f"is to end: {number.name}")
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await _ended(process)
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        if process is not None:
            await _ended(process)


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process, and return its exit code. A cancelled wait leaves it as it is."""
    if process.poll() is None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        handle = os.pidfd_open(process.pid)
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
    return process.wait()


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
