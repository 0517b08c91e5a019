from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.deploy.atria import Up, atria, is_alive, until, up
from tests.tools import dcmtk

STORESCU = dcmtk("storescu")


def send(cluster: Up, *files: Path) -> None:
    """Send with DCMTK where it is, else with our own sender."""
    if STORESCU is None:
        sent = atria("send", "--to", cluster.address, *files)
    else:
        host, _, port = cluster.address.rpartition(":")
        sent = subprocess.run(
            [STORESCU, "-xs", "-aec", "ATRIA", host, port, *files],
            env={**os.environ, "TCP_NODELAY": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert sent.returncode == 0, sent.stderr


def pid_of(cluster: Up, name: str) -> int:
    process = cluster.process_named(name)
    assert process is not None
    return process.pid


def held(cluster: Up) -> dict[str, int]:
    return {site.name: site.held.instances for site in cluster.look().sites if site.held is not None}


def everywhere(number: int) -> dict[str, int]:
    return dict.fromkeys("abc", number)


def test_a_minio_that_is_killed_is_not_missed_and_comes_back_and_the_next_start_finds_the_data_again(
    tmp_path: Path, images: list[Path]
) -> None:
    first, second = images[:1], images[1:3]
    with up(tmp_path / "data", "--sites=minio") as cluster:
        pids = cluster.pids(7)
        send(cluster, *first)
        before = pid_of(cluster, "minio-b")
        os.kill(before, signal.SIGKILL)
        send(cluster, *second)
        until(lambda: {site.state for site in cluster.look().sites} == {"up"}, seen=cluster.look)
        assert pid_of(cluster, "minio-b") != before
        until(lambda: held(cluster) == everywhere(3), seen=cluster.look)
        assert cluster.end() == 0
        assert not any(map(is_alive, pids))
    with up(tmp_path / "data") as cluster:
        assert held(cluster) == everywhere(3)


def test_one_that_hangs_is_said_to_and_the_servers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--sites=minio") as cluster:
        pids = cluster.pids(7)
        os.kill(pid_of(cluster, "minio-a"), signal.SIGSTOP)
        hung = cluster.process_named("minio-a")
        assert hung is not None
        assert hung.state == f"not ready: see {cluster.data}/logs/minio-a.log"
        assert cluster.look().sites[0].state == "it does not answer in time"
        cluster.process.kill()
        until(lambda: not any(map(is_alive, pids)))


def test_a_site_whose_disk_is_lost_is_replaced_while_the_cluster_runs(
    tmp_path: Path, images: list[Path]
) -> None:
    with up(tmp_path / "data", "--sites=minio") as cluster:
        send(cluster, *images[:3])
        os.kill(pid_of(cluster, "minio-c"), signal.SIGKILL)
        shutil.rmtree(cluster.data / "site-c")
        until(lambda: cluster.process_named("minio-c") is not None)
        until(lambda: "no bucket" in cluster.look().sites[2].state)
        listed = atria("site", "check", "--data", cluster.data)
        assert listed.returncode == 1
        assert "site c: there is no bucket atria" in listed.stdout
        replaced = atria("site", "replace", "c", "--yes", "--data", cluster.data)
        assert replaced.returncode == 0, replaced.stderr
        assert held(cluster) == everywhere(3)
        assert atria("verify", "--data", cluster.data).returncode == 0
        assert atria("site", "check", "--data", cluster.data).returncode == 0
        send(cluster, *images[:3])


def test_without_a_program_it_is_said_what_to_do_and_nothing_is_made(tmp_path: Path) -> None:
    config = tmp_path / "atria.toml"
    config.write_text('minio_binary = "/no/such/minio"\n')
    ended = atria("up", "--sites=minio", "--config", config, "--data", tmp_path / "data")
    assert ended.returncode == 2
    assert ended.stderr.startswith("atria: minio_binary: /no/such/minio is no program")
    assert not (tmp_path / "data" / "minio.json").exists()


@pytest.mark.parametrize("option", ["folders", "minio"])
def test_a_cluster_keeps_the_kind_of_sites_that_it_has(tmp_path: Path, option: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if option == "folders":
        (data / "minio.json").write_text('{"ports": {"a": 1, "b": 2, "c": 3}}')
    else:
        (data / "cluster.json").write_text("{}")
    ended = atria("up", f"--sites={option}", "--data", data)
    assert ended.returncode == 2
    assert "has its sites in" in ended.stderr
