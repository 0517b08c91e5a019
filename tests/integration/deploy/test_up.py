from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.dicom import client
from cluster.dicom.faults import AssociationEnded
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.requestor import AssociationRejected, ProposedContext
from cluster.dicom.transfer_syntaxes import SERVICE_ORDER
from cluster.dicom.uids import VERIFICATION
from deploy.client.peer import Peer, parse_address
from deploy.server import free_port
from tests.certificates import Authority
from tests.integration.deploy.atria import END_TIMEOUT_S, Up, atria, is_alive, until, up

VERIFICATION_ONLY = [ProposedContext(VERIFICATION, SERVICE_ORDER)]


FREE_PORTS = ("--dicom-port=0", "--http-port=0")


def with_tls(folder: Path, port: int) -> Path:
    """Write settings with TLS at a port."""
    pair = Authority(folder).pair("pacs")
    files = f"certificate_file = '{pair.certificate_file}'\nkey_file = '{pair.key_file}'"
    config = folder / "tls.toml"
    config.write_text(f"[tls]\nmode = 'ended'\nport = {port}\n{files}\n")
    return config


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_ctrl_c_ends_everything_with_0_and_the_next_start_finds_the_data_again(
    tmp_path: Path, images: list[Path]
) -> None:
    with up(tmp_path / "data") as cluster:
        assert atria("send", "--to", cluster.address, *images).returncode == 0
        pids = cluster.pids(4)
        assert cluster.end() == 0
        assert not any(map(is_alive, pids))
    with up(tmp_path / "data") as cluster:
        held = [site.held for site in cluster.look().sites]
        assert [one and one.instances for one in held] == [len(images)] * 3
        got = atria("get", "--data", cluster.data, "--all", "--out", tmp_path / "out")
        assert got.returncode == 0, got.stderr
        assert len(list((tmp_path / "out").rglob("*.dcm"))) == len(images)


def test_everything_that_was_started_ends_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with up(tmp_path / "data") as cluster:
        pids = cluster.pids(4)
        cluster.process.kill()
        until(lambda: not any(map(is_alive, pids)))


def test_after_the_supervisor_was_killed_the_next_start_waits_for_what_still_runs(tmp_path: Path) -> None:
    async def kill_and_start_again(peer: Peer, former: Up, ports: tuple[str, str]) -> None:
        async with await peer.connect(VERIFICATION_ONLY) as association:
            former.process.kill()
            next_start = asyncio.get_running_loop().run_in_executor(None, start_and_end, ports)
            await asyncio.sleep(2)  # longer than the next start takes to find the port in use
            assert not next_start.done()
            assert await client.echo(association) == 0
        await next_start

    def start_and_end(ports: tuple[str, str]) -> None:
        with up(tmp_path / "data", *ports) as cluster:
            assert cluster.end() == 0

    with up(tmp_path / "data") as cluster:
        host, port = parse_address(cluster.address)
        ports = (f"--dicom-port={port}", f"--http-port={cluster.ready['http']['port']}")
        asyncio.run(
            kill_and_start_again(Peer(host, port, "ATRIA", "TEST", UpperLayerLimits()), cluster, ports)
        )


@pytest.mark.parametrize("name", ["worker-1", "balancer", "upkeep"])
def test_a_process_that_dies_is_started_again(running: Up, name: str) -> None:
    dead = running.process_named(name)
    assert dead is not None
    os.kill(dead.pid, signal.SIGKILL)

    def is_back() -> bool:
        again = running.process_named(name)
        return again is not None and again.pid != dead.pid and again.state == "ready"

    until(is_back, seen=lambda: running.process_named(name))
    again = running.process_named(name)
    assert again is not None
    if name == "balancer":
        assert (again.dicom, again.http) == (dead.dicom, dead.http)


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


def test_a_port_for_tls_that_is_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = with_tls(tmp_path, port)
        refused = atria("up", "--data", tmp_path / "data", "--config", config, *FREE_PORTS)
    assert refused.returncode == 2
    assert f"in use (DICOM 127.0.0.1:0, DICOM with TLS 127.0.0.1:{port}," in one_line(refused.stderr)


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


def test_it_is_told_where_tls_is_spoken(tmp_path: Path) -> None:
    port = free_port()
    config = with_tls(tmp_path, port)
    with up(tmp_path / "data", "--config", config) as cluster:
        assert cluster.ready["tls"] == {"host": "127.0.0.1", "port": port}
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_site_folder_that_is_missing_is_down_and_not_made_again(tmp_path: Path, images: list[Path]) -> None:
    with up(tmp_path / "data") as cluster:
        assert cluster.end() == 0
    shutil.rmtree(tmp_path / "data" / "site-b")
    with up(tmp_path / "data") as cluster:
        sent = atria("send", "--to", cluster.address, *images)
        assert sent.returncode == 0, sent.stdout
        states = {site.name: site.state for site in cluster.look().sites}
        assert (states["a"], states["c"]) == ("up", "up")
        assert states["b"] != "up"
        assert not (tmp_path / "data" / "site-b").exists()
        assert atria("verify", "--data", cluster.data).returncode == 1


async def connect_until_refused(peer: Peer) -> None:
    while True:
        async with await peer.connect(VERIFICATION_ONLY):
            await asyncio.sleep(0.02)


async def echo_and(peer: Peer, interrupt: Callable[[], None]) -> int:
    """Open an association, interrupt the cluster, and return the status of a C-ECHO after that."""
    async with await peer.connect(VERIFICATION_ONLY) as association:
        assert await client.echo(association) == 0
        interrupt()
        with pytest.raises((OSError, AssociationEnded, AssociationRejected)):
            await connect_until_refused(peer)
        return await client.echo(association)


def test_ctrl_c_takes_no_more_associations_and_lets_those_that_run_finish(tmp_path: Path) -> None:
    with up(tmp_path / "data") as cluster:
        host, port = parse_address(cluster.address)
        peer = Peer(host, port, "ATRIA", "TEST", UpperLayerLimits())
        assert asyncio.run(echo_and(peer, lambda: cluster.process.send_signal(signal.SIGINT))) == 0
        assert cluster.process.wait(END_TIMEOUT_S) == 0


def test_a_second_ctrl_c_ends_at_once_and_says_so(tmp_path: Path) -> None:
    async def interrupted(peer: Peer, cluster: Up) -> None:
        association = await peer.connect(VERIFICATION_ONLY)
        cluster.process.send_signal(signal.SIGINT)
        # Only then: two signals at once would be delivered as one.
        with pytest.raises((OSError, AssociationEnded, AssociationRejected)):
            await connect_until_refused(peer)
        cluster.process.send_signal(signal.SIGINT)
        with pytest.raises(AssociationEnded):
            await association.receive()

    with up(tmp_path / "data") as cluster:
        host, port = parse_address(cluster.address)
        pids = cluster.pids(4)
        asyncio.run(interrupted(Peer(host, port, "ATRIA", "TEST", UpperLayerLimits()), cluster))
        assert cluster.process.wait(END_TIMEOUT_S) == 2
        assert not any(map(is_alive, pids))
