from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from chaos.hosts import boot, namespace
from chaos.hosts.addresses import IPV4
from chaos.hosts.cluster import Running
from chaos.hosts.description import described
from deploy import minio, postgresql_programs
from deploy.errors import UserError
from tests import tools

_TOLD_LINES = 400
_FAILED = pytest.StashKey[bool]()
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
async def booted(request: pytest.FixtureRequest, programs: tuple[Path, Path]) -> AsyncIterator[Running]:
    """A cluster of five hosts, booted from what is rendered.

    On IPv4, unless a test asks for another one by `indirect`: then the former makes room for it.
    """
    addresses = getattr(request, "param", IPV4)
    with _folder_for_hosts() as folder, _quiet():
        async with boot.running(folder, described(folder, *programs, addresses=addresses)) as running:
            yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell with a test that failed what happened on the hosts meanwhile, and keep all of their logs."""
    report = yield
    running = item.funcargs.get("running") if hasattr(item, "funcargs") else None
    if report.failed and isinstance(running, Running):
        item.stash[_FAILED] = True
        kept = item.config.rootpath / "build" / "hosts" / item.name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(running.folder / "logs", kept)
        told = running.story(datetime.fromtimestamp(call.start, UTC))
        (kept / "story.txt").write_text("".join(f"{line}\n" for line in told), "utf-8")
        hosts = ", ".join(f"{host} {mac}" for host, mac in running.network.macs.items())
        head = f"{hosts}\nall of it, and all logs: {kept}\n"
        report.sections.append(("What happened on the hosts", head + "\n".join(told[-_TOLD_LINES:])))
    return report


@pytest_asyncio.fixture(loop_scope="session")
async def running(request: pytest.FixtureRequest, booted: Running) -> AsyncIterator[Running]:
    """That cluster. A test leaves it well; after one that failed it is mended."""
    yield booted
    if request.node.stash.get(_FAILED, False):
        await booted.mend()


@contextmanager
def _quiet() -> Iterator[None]:
    """Our own callers' logs: those of the hosts tell more."""
    former = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(**former)


@contextmanager
def _folder_for_hosts() -> Iterator[Path]:
    """A folder that any user can get into."""
    folder = Path(tempfile.mkdtemp(prefix="atria-hosts-", dir=_RAM if _RAM.is_dir() else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
