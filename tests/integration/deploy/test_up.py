from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.deploy.atria import Up, atria, is_alive, until, up


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_ctrl_c_ends_everything_with_0_and_the_next_start_finds_the_data_again(
    tmp_path: Path, images: list[Path]
) -> None:
    with up(tmp_path / "data") as cluster:
        assert atria("send", "--to", cluster.address, *images).returncode == 0
        pids = [one["pid"] for one in cluster.status()["processes"]]
        assert len(pids) == 4
        assert cluster.end() == 0
        assert not any(map(is_alive, pids))
    with up(tmp_path / "data") as cluster:
        assert {site["held"]["instances"] for site in cluster.status()["sites"]} == {len(images)}
        got = atria("get", "--data", cluster.data, "--all", "--out", tmp_path / "out")
        assert got.returncode == 0, got.stderr
        assert len(list((tmp_path / "out").rglob("*.dcm"))) == len(images)


def test_everything_that_was_started_ends_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with up(tmp_path / "data") as cluster:
        pids = [one["pid"] for one in cluster.status()["processes"]]
        cluster.process.kill()
        until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("name", ["worker-1", "balancer", "upkeep"])
def test_a_process_that_dies_is_started_again(running: Up, name: str) -> None:
    dead = running.process_named(name)
    assert dead is not None
    os.kill(dead["pid"], signal.SIGKILL)

    def is_back() -> bool:
        again = running.process_named(name)
        return again is not None and again["pid"] != dead["pid"] and again["state"] == "ready"

    until(is_back)
    again = running.process_named(name)
    assert again is not None
    if name == "balancer":
        assert (again["dicom"], again["http"]) == (dead["dicom"], dead["http"])


def test_a_second_start_in_the_same_folder_says_that_one_runs(running: Up) -> None:
    second = atria("up", "--data", running.data, "--dicom-port=0", "--http-port=0")
    assert second.returncode == 2
    assert f"already (process {running.process.pid})" in one_line(second.stderr)


@pytest.mark.parametrize("which", ["--dicom-port", "--http-port"])
def test_a_port_in_use_is_one_clear_line(tmp_path: Path, which: str) -> None:
    other = "--http-port" if which == "--dicom-port" else "--dicom-port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = atria("up", "--data", tmp_path / "data", f"{which}={port}", f"{other}=0")
    assert refused.returncode == 2
    assert f"127.0.0.1:{port}" in one_line(refused.stderr)
    assert "in use" in refused.stderr


def test_a_data_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = atria("up", "--data", tmp_path / "file" / "data")
    assert refused.returncode == 2
    assert f"{tmp_path}/file/data" in one_line(refused.stderr)


def test_a_settings_error_is_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "atria.toml"
    config.write_text("[dicom]\nprot = 104\n")
    refused = atria("up", "--config", config, "--data", tmp_path / "data")
    assert refused.returncode == 2
    assert one_line(refused.stderr) == f"atria: settings: {config}: dicom.prot: there is no such setting"


def test_a_site_folder_that_is_missing_is_down_and_not_made_again(tmp_path: Path, images: list[Path]) -> None:
    with up(tmp_path / "data") as cluster:
        assert cluster.end() == 0
    shutil.rmtree(tmp_path / "data" / "site-b")
    with up(tmp_path / "data") as cluster:
        sent = atria("send", "--to", cluster.address, *images)
        assert sent.returncode == 0, sent.stdout
        states = {site["name"]: site["state"] for site in cluster.status()["sites"]}
        assert (states["a"], states["c"]) == ("up", "up")
        assert states["b"] != "up"
        assert not (tmp_path / "data" / "site-b").exists()
        assert atria("verify", "--data", cluster.data).returncode == 1
