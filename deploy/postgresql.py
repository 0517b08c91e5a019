"""PostgreSQL servers on this host, for tests, the bench and clusters of one host."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from cluster.durable import replace_durably, sync
from deploy import postgresql_programs as programs
from deploy.errors import UserError
from deploy.server import HOST, STOP_TIMEOUT_S, Server

if TYPE_CHECKING:
    import asyncpg

    from deploy.parent import Account

SUPERUSER: Final = "atria"
_NAMED: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CONNECT_TIMEOUT_S: Final = 5.0
_READY_TIMEOUT_S: Final = 1.0
_OPTIONS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "log_destination": "stderr",
    "logging_collector": "off",
}


def kept_password(passfile: Path) -> str:
    """Return the superuser's password, which a file keeps: made, for its owner alone, if it is not there.

    The file is written as libpq expects it (PGPASSFILE).

    Raises
    ------
    OSError
        It can be neither read nor written.
    ValueError
        It holds something else.
    """
    start = f"*:*:*:{SUPERUSER}:"
    if not passfile.exists():
        replace_durably(passfile, f"{start}{secrets.token_hex(20)}\n", mode=0o600)
    for line in passfile.read_text("utf-8").splitlines():
        if line.startswith(start):
            return line.removeprefix(start)
    raise ValueError(f"no password of {SUPERUSER}")


class PostgresqlServer(Server):
    """One PostgreSQL server.

    Parameters
    ----------
    folder : Path
        Its own: `data/` in it is the database cluster. Whom the server runs as must be able to get there.
    port : int
        Of the loopback interface; 0 takes a free one, which it keeps when it is started again.
    passfile : Path or None
        Keeps the password of its superuser (`kept_password`); None for a file in its folder.
    """

    PRODUCT = "PostgreSQL"
    STOP_SIGNAL = signal.SIGINT  # SIGTERM would wait for the clients to go

    def __init__(self, folder: Path, port: int = 0, *, passfile: Path | None = None) -> None:
        super().__init__(folder.absolute(), port)
        self.passfile = passfile or self.folder / "passfile"

    @property
    def account(self) -> Account | None:
        """Whom it runs as; None for who we are.

        Raises
        ------
        UserError
            We are root, and there is no user for it.
        """
        return programs.account()

    def url(self, database: str) -> str:
        """Return where a database is, as the settings name it; the password is in `passfile`."""
        return f"postgresql://{SUPERUSER}@{self.address}/{quote(database, safe='')}?sslmode=disable"

    def command(self) -> list[str]:
        """Return the command line; credentials are not in it.

        Raises
        ------
        UserError
            There is no program of the version that made the data.
        """
        options = {**_OPTIONS, "port": str(self.port)}
        return [
            *(str(self._binaries() / "postgres"), "-D", str(self.data)),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ]

    def environment(self) -> dict[str, str]:
        """Return the whole environment it is to run with: nothing of ours but what it must know."""
        return {"PATH": os.defpath}

    def make_data(self) -> None:
        """Make the database cluster, whole or not at all, unless it is there. Blocks.

        Raises
        ------
        OSError
            Its folder cannot be written.
        UserError
            There is no program, or it cannot be run in that folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.account is not None:
            programs.refuse_impassable(self.folder, self.account)
        if self.data.exists():
            return
        try:
            password = kept_password(self.passfile)
        except ValueError as error:
            raise UserError(
                f"{self.passfile} is no password file of libpq ({error}): put a good copy back"
            ) from error
        beside = self.folder / "data.new"
        with suppress(FileNotFoundError):  # of a start that was cut short
            shutil.rmtree(beside)
        beside.mkdir(mode=0o700)
        if self.account is not None:
            os.chown(beside, self.account.user, self.account.group)
        self._initdb(beside, password)
        beside.rename(self.data)
        sync(self.folder)

    async def is_ready(self) -> bool:
        """Whether it would take a request now."""
        import asyncpg

        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                connection = await self.connect()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        connection.terminate()
        return True

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """Connect as the superuser.

        Raises
        ------
        OSError
            It does not answer, or not in time.
        asyncpg.PostgresError
            It refuses.
        """
        import asyncpg

        return await asyncpg.connect(
            self.url(database), passfile=str(self.passfile), timeout=_CONNECT_TIMEOUT_S
        )

    async def new_database(self, name: str, *, template: str = "template1") -> None:
        """Make a database, as a copy of another that nobody is connected to.

        Raises
        ------
        OSError
            It does not answer, or not in time.
        asyncpg.PostgresError
            There is one of that name already.
        """
        await self._execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(template)}")

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it. Harmless when there is none.

        Raises
        ------
        OSError
            It does not answer, or not in time.
        """
        await self._execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGSTOP, SIGCONT and SIGKILL go to all its processes: each client has its own."""
        if number not in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
            super().signal(number)
            return
        with ExitStack() as stack:
            for handle in self._children(stack):
                _send(handle, number)
            super().signal(number)

    async def kill(self) -> None:
        """End it at once, with all its processes, as a power cut would end it."""
        with ExitStack() as stack:
            children = self._children(stack)
            self.signal(signal.SIGKILL)
            # While one of them has the shared memory, another server would not start over the same data.
            await asyncio.to_thread(_await_ends, children, STOP_TIMEOUT_S)
            await self._has_ended(STOP_TIMEOUT_S)

    def _children(self, stack: ExitStack) -> list[int]:
        """Open a handle to each of its processes but the first, which makes no further one until SIGCONT."""
        pid = self.pid
        if pid is None:
            return []
        super().signal(signal.SIGSTOP)
        handles = []
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(int(child))
                stack.callback(os.close, handle)
                handles.append(handle)
        return handles

    def _binaries(self) -> Path:
        try:
            major = int((self.data / "PG_VERSION").read_text("ascii"))
        except FileNotFoundError:
            major = None
        return programs.find_binaries(major)

    def _initdb(self, folder: Path, password: str) -> None:
        account = self.account
        with os.fdopen(os.memfd_create("password"), "w") as told:
            told.write(f"{password}\n")
            told.flush()
            done = subprocess.run(  # noqa: S603  a program of the host's packages, or that of PATH
                [
                    *(str(self._binaries() / "initdb"), "-D", str(folder), "-U", SUPERUSER),
                    *("--auth=scram-sha-256", f"--pwfile=/dev/fd/{told.fileno()}"),
                    # Letters of all languages are letters to pg_trgm; order is that of bytes.
                    *("--encoding=UTF8", "--locale=C", "--lc-ctype=C.UTF-8", "--data-checksums"),
                ],
                env=self.environment(),
                cwd=folder,
                user=None if account is None else account.user,
                group=None if account is None else account.group,
                extra_groups=None if account is None else account.groups,
                pass_fds=(told.fileno(),),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"PostgreSQL cannot make {folder}: {last}")

    async def _execute(self, statement: str) -> None:
        connection = await self.connect()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _quoted(name: str) -> str:
    assert _NAMED.fullmatch(name), name
    return f'"{name}"'


def _send(handle: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


def _await_ends(handles: list[int], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
