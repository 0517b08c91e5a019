"""A cluster of five hosts, booted from what `atria deploy render` has made of one file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from chaos.hosts.addresses import CLIENT, SITES
from chaos.hosts.cluster import AE_TITLE, Running
from chaos.hosts.sender import send_throughout
from deploy.render import units
from tests import tools

pytestmark = [pytest.mark.hosts, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


async def in_client(running: Running, *command: object) -> None:
    done = await asyncio.to_thread(running.network[CLIENT].run, *map(str, command))
    assert isinstance(done, str)


async def records(running: Running) -> list[object]:
    """Return what each host's disk says of the sites."""
    return [json.loads((running.folder / "data" / name / "cluster.json").read_text()) for name in SITES]


async def test_a_cluster_boots_from_one_file_and_keeps_what_is_sent(running: Running, tmp_path: Path) -> None:
    """One start serves several looks: booting is what takes the time."""
    await a_client_stores_and_gets_back(running, tmp_path)
    await all_hosts_go_by_one_record(running)
    await stores_go_on_without_etcd(running)
    await a_worker_starts_without_etcd(running)
    await asyncio.gather(*(running.hosts[name][units.ETCD].start() for name in SITES))


async def a_client_stores_and_gets_back(running: Running, tmp_path: Path) -> None:
    storescu, getscu = tools.dcmtk("storescu"), tools.dcmtk("getscu")
    if storescu is None or getscu is None:
        pytest.skip("DCMTK is not installed")
    sent = Path(str(get_testdata_file("CT_small.dcm")))
    at = running.at("lb2")
    await in_client(running, storescu, "-aec", AE_TITLE, at.host, at.port, sent)
    data_set = dcmread(sent)
    keys = {
        "QueryRetrieveLevel": "IMAGE",
        "StudyInstanceUID": data_set.StudyInstanceUID,
        "SeriesInstanceUID": data_set.SeriesInstanceUID,
        "SOPInstanceUID": data_set.SOPInstanceUID,
    }
    asked = [part for key, value in keys.items() for part in ("-k", f"{key}={value}")]
    at = running.at("lb1")
    got = tmp_path / "got"
    got.mkdir()
    await in_client(running, getscu, "-aec", AE_TITLE, "-S", *asked, "-od", got, at.host, at.port)
    (file,) = got.iterdir()
    assert dcmread(file).PixelData == data_set.PixelData


async def all_hosts_go_by_one_record(running: Running) -> None:
    first, *others = await records(running)
    assert isinstance(first, dict)
    assert all(site["made"] for site in first["sites"])
    for other in others:
        assert isinstance(other, dict)
        assert (other["cluster"], other["edition"]) == (first["cluster"], first["edition"])


async def stores_go_on_without_etcd(running: Running) -> None:
    sending = asyncio.create_task(running.client.run(send_throughout(running.at("lb1"), 3.0)))
    await asyncio.gather(*(running.hosts[name][units.ETCD].kill() for name in SITES))
    during = await sending
    after = await running.client.run(send_throughout(running.at("lb2"), 0.0))
    assert (during.fault, after.fault) == (None, None)


async def a_worker_starts_without_etcd(running: Running) -> None:
    worker = running.hosts["s1"]["worker@1"]
    before = worker.log_file.read_text().count("worker.ready")
    await worker.stop()
    await worker.start()

    async def is_ready() -> bool:
        return worker.log_file.read_text().count("worker.ready") > before

    await running.until(is_ready, "a worker without etcd")
