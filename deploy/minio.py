"""MinIO servers on this host: what `atria up --sites minio`, the tests and the bench run.

Each server has a folder, a port of the loopback interface, and a process of its own, so that it fails by
itself. All servers of one data folder share the root credentials that were made with the first of them.
"""

from __future__ import annotations

import asyncio
import configparser
import os
import secrets
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

from cluster.coordination.protocol import Address
from deploy import pages
from deploy.durable import replace_durably
from deploy.errors import UserError
from deploy.parent import die_with

HOST: Final = "127.0.0.1"
READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_POLL_S: Final = 0.02
_HEALTH: Final = "/minio/health/cluster"
"""200 only when its drive can be written: `live` says so of a server that cannot do anything yet."""


@dataclass(frozen=True, slots=True)
class RootCredentials:
    """Who may do everything at a server. Never shown."""

    access_key: str
    secret_key: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Make new ones, at random."""
        return cls(f"atria-{secrets.token_hex(6)}", secrets.token_hex(20))

    @classmethod
    def kept(cls, file: Path) -> Self:
        """Return those that a file keeps, which is made, readable by its owner alone, if it is not there.

        The file is written as other S3 clients expect it (AWS shared credentials, profile `default`).

        Raises
        ------
        OSError
            It can be neither read nor written.
        KeyError, configparser.Error
            It holds something else.
        """
        if not file.exists():
            new = cls.generate()
            text = f"aws_access_key_id = {new.access_key}\naws_secret_access_key = {new.secret_key}\n"
            replace_durably(file, f"[default]\n{text}", mode=0o600)
            return new
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(file.read_text("utf-8"))
        entries = parser["default"]
        return cls(entries["aws_access_key_id"], entries["aws_secret_access_key"])


def find_binary(named: Path | None = None) -> Path:
    """Return where MinIO's program is: as the settings name it, else in `servers/`, else in PATH.

    Raises
    ------
    UserError
        It is nowhere.
    """
    if named is not None:
        binary = named.expanduser()
        if not os.access(binary, os.X_OK):
            raise UserError(f"minio_binary: {binary} is no program that can be run")
        return binary
    built = _CHECKOUT / "servers" / "minio"
    if os.access(built, os.X_OK):
        return built
    if found := shutil.which("minio"):
        return Path(found)
    raise UserError(
        f"MinIO's program is neither at {built} nor in PATH: build it with `make servers`,"
        " or name it in the settings (minio_binary)"
    )


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


async def is_ready(address: Address) -> bool:
    """Whether the server there would take a request now."""
    try:
        page = await pages.fetch(address, _HEALTH, timeout_s=1.0)
    except pages.NoPage:
        return False
    return page.status == HTTPStatus.OK


class MinioServer:
    """One MinIO server, with one drive.

    Parameters
    ----------
    folder : Path
        Its own: `data/` in it is the drive.
    port : int
        Of the loopback interface; 0 takes a free one, which it keeps when it is started again.
    credentials : RootCredentials
    binary : Path or None
        The program; None looks for it when it is started (`find_binary`).
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        credentials: RootCredentials | None = None,
        *,
        binary: Path | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.credentials = credentials or RootCredentials.generate()
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The drive: a folder for each bucket."""
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        """What it says, when it was started by `start`."""
        return self.folder / "minio.log"

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(HOST, self.port)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int | None:
        """Its process, or None when it does not run; also while it is stopped by SIGSTOP."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    def command(self) -> list[str]:
        """Return the command line; credentials are not in it.

        Raises
        ------
        UserError
            There is no program.
        """
        return [
            *(str(self._binary or find_binary()), "server", "--quiet"),
            *("--address", str(self.address)),
            *("--certs-dir", str(self.folder / "certs")),
            str(self.data),
        ]

    def environment(self) -> dict[str, str]:
        """Return the whole environment it is to run with: nothing of ours but what it must know."""
        return {
            "HOME": str(self.folder),
            "PATH": os.defpath,
            "MINIO_ROOT_USER": self.credentials.access_key,
            "MINIO_ROOT_PASSWORD": self.credentials.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }

    def make_folders(self) -> None:
        """Make its folder, unless it is there.

        Raises
        ------
        OSError
        """
        self.data.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Start it, and wait until it answers. To be called from the main thread: it ends with that.

        Raises
        ------
        UserError
            There is no program; or it ended, or does not answer in time, and runs no more.
        """
        assert self.pid is None, "it runs already"
        self.make_folders()
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
                said = f"MinIO does not answer within {READY_TIMEOUT_S:.0f} s: {self._last_words()}"
                raise UserError(said) from None
            raise
        raise UserError(f"MinIO ended at once: {self._last_words()}")

    def _launched(self) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  a program that the operator chose
                self.command(),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), signal.SIGKILL),
            )

    async def is_ready(self) -> bool:
        """Whether it would take a request now."""
        return await is_ready(self.address)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP and SIGCONT, say."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Ask it to end, and wait for that; end it when it takes too long. Harmless when it does not run."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        if not await self._has_ended(STOP_TIMEOUT_S):
            await self.kill()

    async def kill(self) -> None:
        """End it at once, as a power cut would end it."""
        self.signal(signal.SIGKILL)
        await self._has_ended(STOP_TIMEOUT_S)

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
        worst = [line for line in lines if line.startswith(("ERROR", "FATAL"))] or lines
        return f"{worst[-1]} (all of it: {self.log_file})"
