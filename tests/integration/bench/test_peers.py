from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from pydicom import dcmread

from tests import tools
from tests.bench import instances, peers, population
from tests.bench.legs import send
from tests.bench.processes import Broken, free_port, running, wait_for_port
from tests.bench.sender import Job

_STORESCP = tools.dcmtk("storescp") or Path()
_ORTHANC = tools.orthanc() or Path()
_needs_dcmtk = pytest.mark.skipif(not _STORESCP.is_file(), reason="DCMTK is not installed")
_needs_orthanc = pytest.mark.skipif(not _ORTHANC.is_file(), reason="Orthanc is not installed")


@pytest.mark.dcmtk
@_needs_dcmtk
@pytest.mark.parametrize("max_pdu_bytes", [4096, 131072])
def test_what_dcmtk_receives_is_byte_for_byte_what_was_to_be_sent(tmp_path: Path, max_pdu_bytes: int) -> None:
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    command: list[str | Path] = [_STORESCP, "--fork", "--bit-preserving", "--max-pdu", str(max_pdu_bytes)]
    with running([*command, "--output-directory", received, str(port)], folder=tmp_path) as process:
        wait_for_port(process, port)
        job = Job("127.0.0.1", port, associations=2, count=3)
        send(job, "DCMTK")
    files = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): file for file in received.iterdir()}
    assert len(files) == 6
    for association in range(2):
        for number in range(3):
            uids = instances.uids(job.run, association, number)
            made = instances.ct_image(uids)
            data_set = made.header + instances.pixels(made.pixel_bytes)
            assert files[uids.instance.decode()].read_bytes().endswith(data_set)


@pytest.mark.dcmtk
@_needs_dcmtk
def test_small_images_are_of_one_study_after_the_other(tmp_path: Path) -> None:
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    command: list[str | Path] = [_STORESCP, "--fork", "--output-directory", received, str(port)]
    with running(command, folder=tmp_path) as process:
        wait_for_port(process, port)
        send(Job("127.0.0.1", port, associations=2, count=3, first_study=10), "DCMTK")
    stored = {str(data_set.StudyInstanceUID): data_set for data_set in map(dcmread, received.iterdir())}
    studies = {study.study_instance_uid: study for study in map(population.study, range(10, 16))}
    assert stored.keys() == studies.keys()
    for uid, data_set in stored.items():
        values = studies[uid].values
        assert str(data_set.PatientName) == values[0x00100010]
        assert (data_set.PatientID, data_set.AccessionNumber) == (values[0x00100020], values[0x00080050])
        assert (data_set.Rows, data_set.Columns, len(data_set.PixelData)) == (1, 1, 2)


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(lambda folder: peers.module("discarder", folder), id="discarder"),
        pytest.param(lambda folder: peers.module("pynetdicom_receiver", folder), id="pynetdicom"),
        pytest.param(
            lambda folder: peers.dcmtk(_STORESCP, folder, 16384),
            id="DCMTK",
            marks=[pytest.mark.dcmtk, _needs_dcmtk],
        ),
        pytest.param(lambda folder: peers.orthanc(_ORTHANC, folder), id="Orthanc", marks=_needs_orthanc),
    ],
)
def test_each_peer_takes_what_is_sent_on_four_associations(
    peer: Callable[[Path], AbstractContextManager[int]], tmp_path: Path
) -> None:
    with peer(tmp_path) as port:
        assert send(Job("127.0.0.1", port, associations=4, count=3), "peer").instances == 12


def test_a_sender_that_reaches_nobody_is_told(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="nobody: ConnectionRefusedError"):
        send(Job("127.0.0.1", free_port()), "nobody")
