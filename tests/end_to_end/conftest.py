from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from chaos.hosts import boot, namespace
from chaos.hosts.addresses import IPV4
from chaos.hosts.cluster import Running
from chaos.hosts.description import described
from deploy import minio, postgresql_programs
from deploy.errors import UserError
from tests import tools

_RAM = Path("/dev/shm")
"""Where there is room in memory, servers do not wait for the disk that all of them share here."""


@pytest.fixture(scope="session")
def programs() -> tuple[Path, Path]:
    """MinIO's program, and the folder of PostgreSQL's: without them, or root, there are no hosts."""
    if (why := namespace.why_not()) is not None:
        pytest.skip(why)
    if tools.etcd() is None:
        pytest.skip("etcd is not installed")
    try:
        return minio.find_binary(), postgresql_programs.find_binaries()
    except UserError as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(request: pytest.FixtureRequest, programs: tuple[Path, Path]) -> AsyncIterator[Running]:
    """A cluster of five hosts, booted from what is rendered; each test leaves it well.

    On IPv4, unless a test asks for another one by `indirect`: then the former makes room for it.
    """
    addresses = getattr(request, "param", IPV4)
    with _folder_for_hosts() as folder:
        async with boot.running(folder, described(folder, *programs, addresses=addresses)) as running:
            yield running


@contextmanager
def _folder_for_hosts() -> Iterator[Path]:
    """A folder that any user can get into."""
    folder = Path(tempfile.mkdtemp(prefix="atria-hosts-", dir=_RAM if _RAM.is_dir() else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
