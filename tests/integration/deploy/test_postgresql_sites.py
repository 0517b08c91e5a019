"""`atria up --catalogue postgresql`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.deploy.atria import Up, atria, is_alive, until, up
from tests.postgresql import reachable_folder


@pytest.fixture
def data() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder / "data"


def pid_of(cluster: Up, name: str) -> int:
    process = cluster.process_named(name)
    assert process is not None
    return process.pid


def address_of(cluster: Up, name: str) -> str:
    process = cluster.process_named(name)
    assert process is not None
    return process.http


def send(cluster: Up, *files: Path) -> None:
    sent = atria("send", "--to", cluster.address, *files)
    assert sent.returncode == 0, sent.stderr


def held(cluster: Up) -> dict[str, int]:
    return {site.name: site.held.instances for site in cluster.look().sites if site.held is not None}


def everywhere(number: int) -> dict[str, int]:
    return dict.fromkeys("abc", number)


def test_a_database_that_is_killed_is_not_missed_and_comes_back_and_the_next_start_finds_the_data_again(
    data: Path, images: list[Path]
) -> None:
    with up(data, "--catalogue=postgresql") as cluster:
        pids = cluster.pids(7)
        send(cluster, *images[:1])
        before = pid_of(cluster, "postgresql-b")
        os.kill(before, signal.SIGKILL)
        send(cluster, *images[1:3])
        until(lambda: {site.state for site in cluster.look().sites} == {"up"}, seen=cluster.look)
        assert pid_of(cluster, "postgresql-b") != before
        until(lambda: held(cluster) == everywhere(3), seen=cluster.look)
        host, _, port = address_of(cluster, "postgresql-a").rpartition(":")
        with socket.create_connection((host, int(port))):  # somebody else's: it is not waited for
            assert cluster.end() == 0
        assert not any(map(is_alive, pids))
    for name in "abc":
        said = (data / "logs" / f"postgresql-{name}.log").read_text()
        assert said.rstrip().endswith("database system is shut down")
    with up(data) as cluster:
        assert held(cluster) == everywhere(3)


def test_the_servers_end_when_the_supervisor_is_killed(data: Path) -> None:
    with up(data, "--catalogue=postgresql") as cluster:
        pids = cluster.pids(7)
        cluster.process.kill()
        until(lambda: not any(map(is_alive, pids)))


def test_a_site_whose_database_is_lost_is_replaced(data: Path, images: list[Path]) -> None:
    with up(data, "--catalogue=postgresql") as cluster:
        send(cluster, *images[:3])
        assert cluster.end() == 0
    shutil.rmtree(data / "site-c" / "postgresql")
    with up(data) as cluster:
        assert "holds no catalogue" in cluster.look().sites[2].state
        replaced = atria("site", "replace", "c", "--yes", "--data", data)
        assert replaced.returncode == 0, replaced.stderr
        assert held(cluster) == everywhere(3)
        assert atria("site", "check", "--data", data).returncode == 0


def test_a_folder_that_the_servers_cannot_get_into_is_said_and_nothing_is_kept(data: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("they run as who we are")
    data.parent.chmod(0o700)
    ended = atria("up", "--catalogue=postgresql", "--data", data)
    assert ended.returncode == 2
    assert f"cannot get into {data.parent}" in ended.stderr
    assert not (data / "postgresql.json").exists()
