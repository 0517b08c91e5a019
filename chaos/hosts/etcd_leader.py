"""Which host's etcd leads, as its own metrics tell."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING, Final

from deploy.render import places

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LEADS: Final = re.compile(rb"^etcd_server_is_leader 1$", re.MULTILINE)
_TIMEOUT_S: Final = 2.0


async def etcd_leader(hosts: Iterable[tuple[str, str]], folder: Path) -> str | None:
    """Return the host whose etcd leads; None when none says so. To be asked from a host that reaches them.

    Parameters
    ----------
    hosts : iterable of tuple of str and str
        Name and address of those that have a member.
    folder : Path
        What was rendered for a host that may ask.
    """
    context = ssl.create_default_context(cafile=folder / places.authority(places.ETCD))
    context.load_cert_chain(
        folder / places.certificate(places.ETCD_CLIENT), folder / places.key(places.ETCD_CLIENT)
    )
    for name, address in hosts:
        if _LEADS.search(await _metrics(address, context)):
            return name
    return None


async def _metrics(address: str, context: ssl.SSLContext) -> bytes:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, places.ETCD_CLIENT_PORT, ssl=context)
            try:
                writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
                return await reader.read()
            finally:
                writer.close()
    except OSError:  # also when it takes too long
        return b""
