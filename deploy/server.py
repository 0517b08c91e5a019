"""A server that a site stands on, run on this host: what `atria up`, the tests and the bench have in common.

Each server has a folder, a port of the loopback interface, and a process of its own, so that it fails by
itself. It ends with who started it.
"""

from __future__ import annotations

import abc
import asyncio
import os
import re
import signal
import socket
import subprocess
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from cluster.coordination.registry import Address
from deploy.errors import UserError
from deploy.parent import die_with

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.parent import Account

HOST: Final = "127.0.0.1"
READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0

_POLL_S: Final = 0.02
_WORST: Final = re.compile(r"\b(ERROR|FATAL|PANIC)\b")


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class Server(abc.ABC):
    """One server process.

    Parameters
    ----------
    folder : Path
        Its own.
    port : int
        Of the loopback interface; 0 takes a free one, which it keeps when it is started again.
    """

    PRODUCT: ClassVar[str]
    STOP_SIGNAL: ClassVar[signal.Signals] = signal.SIGTERM
    """What asks it to end without waiting for its clients."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """What it keeps."""
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        """What it says, when it was started by `start`."""
        return self.folder / f"{self.PRODUCT.lower()}.log"

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(HOST, self.port)

    @property
    def account(self) -> Account | None:
        """Whom it runs as; None for who we are."""
        return None

    @property
    def pid(self) -> int | None:
        """Its process, or None when it does not run; also while it is stopped by SIGSTOP."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Return the command line; credentials are not in it.

        Raises
        ------
        UserError
            There is no program.
        """

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the whole environment it is to run with: nothing of ours but what it must know."""

    @abc.abstractmethod
    async def is_ready(self) -> bool:
        """Whether it would take a request now."""

    def make_data(self) -> None:
        """Make what it keeps its data in, unless it is there. Blocks.

        Raises
        ------
        OSError
        UserError
            There is no program, or it cannot be run in that folder.
        """
        self.data.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Start it, and wait until it answers. To be called from the main thread: it ends with that.

        Raises
        ------
        OSError
            Its folder cannot be written.
        UserError
            There is no program; or it ended, or does not answer in time, and runs no more.
        """
        assert self.pid is None, "it runs already"
        await asyncio.to_thread(self.make_data)
        self._process = self._launched()
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await self.is_ready():
                    if self._process.poll() is not None:
                        break
                    await asyncio.sleep(_POLL_S)
                else:
                    return
        except BaseException as error:
            await self.kill()
            if isinstance(error, TimeoutError):
                said = f"{self.PRODUCT} does not answer within {READY_TIMEOUT_S:.0f} s: {self._last_words()}"
                raise UserError(said) from None
            raise
        raise UserError(f"{self.PRODUCT} ended at once: {self._last_words()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP and SIGCONT, say."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Ask it to end, and wait for that; end it when it takes too long. Harmless when it does not run."""
        self.signal(self.STOP_SIGNAL)
        self.signal(signal.SIGCONT)
        if not await self._has_ended(STOP_TIMEOUT_S):
            await self.kill()

    async def kill(self) -> None:
        """End it at once, as a power cut would end it."""
        self.signal(signal.SIGKILL)
        await self._has_ended(STOP_TIMEOUT_S)

    def _launched(self) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  a program that the operator chose
                self.command(),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), signal.SIGKILL, self.account),
            )

    async def _has_ended(self, limit_s: float) -> bool:
        if self._process is None:
            return True
        try:
            await asyncio.to_thread(self._process.wait, limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        lines = self.log_file.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        worst = [line for line in lines if _WORST.search(line)] or lines
        return f"{worst[-1]} (all of it: {self.log_file})"
