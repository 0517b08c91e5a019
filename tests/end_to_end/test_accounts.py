"""The processes of hosts are who their units say, and may do no more: what is rendered is what is tried."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from chaos.hosts.addresses import BALANCERS, SITES
from chaos.hosts.cluster import Running
from chaos.hosts.description import why_root
from chaos.hosts.service import Service
from deploy.render import units

pytestmark = [pytest.mark.hosts, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW = 1 << 10, 1 << 12, 1 << 13  # linux/capability.h


async def test_every_process_of_every_host_is_who_its_unit_says(running: Running) -> None:
    if (why := why_root()) is not None:
        pytest.skip(why)
    await running.until(running.is_ready, "workers that are well")
    for host in running.hosts.values():
        for name, service in host.services.items():
            is_balancer = name == units.BALANCER
            may = CAP_NET_BIND_SERVICE | CAP_NET_ADMIN | CAP_NET_RAW if is_balancer else 0
            found = status(service)
            assert user(found) == service.unit.privileges.user != "root", name
            assert [int(found[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == 4 * [may], (
                name
            )
            assert found["NoNewPrivs"] == "1", name
            assert int(found["Umask"], 8) & 0o027 == 0o027, name  # PostgreSQL takes more away


async def test_what_root_runs_can_be_changed_by_nobody_else(running: Running) -> None:
    for host in (*BALANCERS, *SITES):
        for file in (running.folder / "rendered" / host).rglob("*"):
            found = file.stat()
            others_may_read = bool(found.st_mode & 0o044)
            assert found.st_uid == 0 or not (file.is_dir() or others_may_read), file
            assert not found.st_mode & 0o022, file


def status(service: Service) -> dict[str, str]:
    """Return what the kernel says of a process (proc(5))."""
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def user(status: dict[str, str]) -> str:
    (uid,) = set(status["Uid"].split())
    return pwd.getpwuid(int(uid)).pw_name
