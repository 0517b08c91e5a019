"""One child process that the supervisor keeps: started, watched, started again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from deploy.errors import UserError
from deploy.parent import die_with
from deploy.process import STAYS_ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from deploy.parent import Account

_USER_ERROR: Final = 2
"""Exit code of a process that cannot start until somebody mends something; its last line says what."""
_FIRST_DELAY_S: Final = 0.2
_LAST_DELAY_S: Final = 10.0
_HEALTHY_S: Final = 30.0
"""After so long a life the next restart is without delay again."""
_START_ATTEMPTS: Final = 3
_ENDS_WITHIN_S: Final = 15.0
"""How long a process may take from its last announcement to its end: meanwhile it can be wanted again."""
_LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024

log = structlog.get_logger()


class Child:
    """A process of the cluster, run as a child in a session of its own.

    Its end is told to it by a signal; should the supervisor die, the kernel tells it (PR_SET_PDEATHSIG).

    Parameters
    ----------
    name : str
    command : callable
        Returns the command line: it is asked at each start.
    log_file : Path
        Where its standard output and error go.
    environment : mapping of str to str, optional
        Its whole environment, if not ours.
    account : Account, optional
        Whom it runs as, if not as us.
    pid_file : Path, optional
        Where its process id is written at each start.
    stop_signal : signal
        What asks it to end.
    orphan_signal : signal
        What the kernel sends to it when the supervisor dies.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        log_file: Path,
        *,
        environment: Mapping[str, str] | None = None,
        account: Account | None = None,
        pid_file: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        orphan_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._restarts = 0
        self._command = command
        self._log_file = log_file
        self._environment = environment
        self._account = account
        self._pid_file = pid_file
        self._stop_signal = stop_signal
        self._orphan_signal = orphan_signal
        self._process: asyncio.subprocess.Process | None = None
        self._started = False
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._wanted_at = -math.inf
        self._ended = asyncio.Event()

    def has_started(self) -> None:
        """Note that it was ready once: from now on it is restarted for ever."""
        self._started = True

    def start_again(self) -> None:
        """Start it, if it has ended and was to stay so, or is about to end: it seems gone before it is."""
        self._wanted_at = time.monotonic()
        self._wanted.set()

    async def keep(self) -> None:
        """Run it, again and again, until it is stopped.

        It stays ended when its exit code says so, until it is wanted again.

        Raises
        ------
        UserError
            It never came up.
        """
        loop = asyncio.get_running_loop()
        delay_s = _FIRST_DELAY_S
        try:
            while not self._stopping.is_set():
                born = loop.time()
                code = await self._run_once()
                if self._stopping.is_set():
                    break
                if code == STAYS_ENDED:
                    await self._until_wanted()
                    continue
                self._restarts += 1
                if not self._started and (code == _USER_ERROR or self._restarts >= _START_ATTEMPTS):
                    raise UserError(self._last_words(code))
                if loop.time() - born > _HEALTHY_S or code == 0:
                    delay_s = _FIRST_DELAY_S
                await self._rest(code, delay_s)
                delay_s = min(2 * delay_s, _LAST_DELAY_S)
        finally:
            self._ended.set()

    async def stop(self, limit_s: float) -> None:
        """Ask it to end, which lets its associations finish; end it when that takes longer than the limit."""
        self._stopping.set()
        self._wanted.set()
        self._signal(self._stop_signal)
        try:
            async with asyncio.timeout(limit_s):
                await self._ended.wait()
        except TimeoutError:
            log.warning("process.hangs", name=self.name, killed_after_s=limit_s, log=str(self._log_file))
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """End it at once."""
        self._stopping.set()
        self._wanted.set()
        self._signal(signal.SIGKILL)

    def end_hung(self, process_id: int) -> None:
        """End it, if it still is the process that hangs; it is started again."""
        if self._process is not None and self._process.pid == process_id:
            self._signal(signal.SIGKILL)

    async def _run_once(self) -> int:
        command = self._command()
        try:
            process = self._process = await self._start(command)
        except OSError as error:
            said = f"{error.filename or command[0]}: {error.strerror}"
            if not self._started:
                raise UserError(f"{self.name} cannot be started: {said}") from error
            log.warning("process.not_started", name=self.name, error=said)
            return os.EX_OSERR  # no room for its log, say, or no memory: that may pass
        try:
            self._note_pid(process.pid)
            if self._stopping.is_set():
                self._signal(self._stop_signal)
            return await process.wait()
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)
            await process.wait()
            raise

    async def _start(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        _rotate(self._log_file)
        with self._log_file.open("ab") as out:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), self._orphan_signal, self._account),
            )

    async def _until_wanted(self) -> None:
        if time.monotonic() - self._wanted_at > _ENDS_WITHIN_S:
            self._wanted.clear()
            log.info("process.stays_ended", name=self.name)
        await self._wanted.wait()
        self._wanted_at = -math.inf

    async def _rest(self, code: int, delay_s: float) -> None:
        """Say how it has ended, and wait before it is started again. Exit code 0: it was asked to end."""
        if code == 0:
            log.info("process.restarts", name=self.name, again_in_s=delay_s)
        else:
            log.warning(
                "process.died", name=self.name, how=_how(code), log=str(self._log_file), again_in_s=delay_s
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()

    def _note_pid(self, pid: int) -> None:
        if self._pid_file is None:
            return
        try:
            self._pid_file.write_text(f"{pid}\n", "ascii")
        except OSError as error:  # who wants to know it has to do without
            log.warning("process.pid_not_noted", name=self.name, reason=str(error))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _last_words(self, code: int) -> str:
        lines = self._log_file.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        if code == _USER_ERROR:
            return lines[-1].removeprefix("atria: ")
        return f"{self.name} cannot be started ({_how(code)}): {lines[-1]} (all of it: {self._log_file})"


def atria(*arguments: str) -> list[str]:
    """Return the command line of one of our own commands."""
    return [sys.executable, "-m", "deploy.command.main", *arguments]


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _rotate(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if file.stat().st_size > _LOG_LIMIT_BYTES:
            file.replace(file.with_name(f"{file.name}.1"))
