"""What every long-running process of the cluster does around its own work."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from typing import TYPE_CHECKING, Final

from deploy import memory
from deploy.errors import UserError, first_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.coordination.registry import Address
    from cluster.settings import Settings

STAYS_ENDED: Final = 10
"""Exit code of a process that was asked to end and not to be started again."""


def serve(settings: Settings, name: str, body: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `body` on uvloop until it returns. SIGINT and SIGTERM set the event that it is given.

    Raises
    ------
    UserError
        An address that the process should listen on cannot be had, nobody can be told of it, or its
        certificates cannot be used.
    """
    import uvloop

    from cluster import telemetry
    from cluster.certificates import CertificatesUnusable
    from cluster.coordination.registry import RegistryUnavailable

    telemetry.configure(name)
    memory.keep_freed_blocks()
    memory.collect_seldom()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await body(stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(run())
            except BaseExceptionGroup as group:
                raise first_of(group) from group
    except RegistryUnavailable as error:
        raise UserError(f"cannot announce the process: {error}") from error
    except CertificatesUnusable as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(_worded(error, settings)) from error


def _worded(error: OSError, settings: Settings) -> str:
    places = ", ".join(f"{what} {where}" for what, where in _places(settings).items())
    if error.errno == errno.EADDRINUSE:
        return (
            f"a port is in use ({places}): end who uses it, or choose others (--dicom-port, --http-port,"
            " or in the settings)"
        )
    if isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, errno.EACCES):
        return f"cannot listen ({places}): {error.strerror}: choose another --host or port"
    raise error


def _places(settings: Settings) -> dict[str, Address]:
    """Return where a process may have been about to listen."""
    from cluster.coordination.registry import Address
    from cluster.settings import TlsMode

    places = {"DICOM": Address(settings.dicom.host, settings.dicom.port)}
    if settings.tls.mode is not TlsMode.OFF:
        places["DICOM with TLS"] = Address(settings.dicom.host, settings.tls.port)
    places["HTTP"] = Address(settings.http.host, settings.http.port)
    if settings.link.is_given:
        places["link of balancers"] = Address(settings.link.host, settings.link.port)
    return places
