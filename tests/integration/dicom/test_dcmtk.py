from __future__ import annotations

import asyncio
import asyncio.subprocess
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import _read_file_meta_info as read_file_meta
from pydicom.filereader import read_preamble

from cluster.dicom import client, uids
from cluster.dicom.association import Association
from cluster.dicom.requestor import ProposedContext, connect
from tests.integration.dicom.peers import CT, EXPLICIT_VR_LE, IMPLICIT_VR_LE, LIMITS, serving
from tests.tools import dcmtk

pytestmark = [
    pytest.mark.dcmtk,
    pytest.mark.skipif(dcmtk("storescp") is None, reason="DCMTK is not installed (package dcmtk)"),
]


def data_set_of(file: Path) -> bytes:
    """Return what follows the File Meta Information of a Part 10 file."""
    stream = BytesIO(file.read_bytes())
    read_preamble(stream, force=False)
    read_file_meta(stream)
    return stream.read()


async def run(program: str, *arguments: str | Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        str(dcmtk(program)),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_echoscu_is_answered() -> None:
    async with serving() as served:
        code, output = await run("echoscu", "-v", "-aec", "ATRIA", "127.0.0.1", str(served.port))
        assert code == 0, output
        assert "Received Echo Response (Success)" in output
        assert await served.endings.get() == "released"


async def test_echoscu_that_aborts_ends_its_association() -> None:
    async with serving() as served:
        code, output = await run("echoscu", "--abort", "127.0.0.1", str(served.port))
        assert code == 0, output
        assert await served.endings.get() == "aborted"


@pytest.mark.parametrize("pdu_length", ["4096", "16384", "131072"])
async def test_what_storescu_sends_arrives_byte_for_byte(pdu_length: str) -> None:
    file = Path(str(get_testdata_file("CT_small.dcm")))
    limits = dataclasses.replace(LIMITS, max_pdu_length_bytes=int(pdu_length))
    async with serving(limits=limits) as served:
        code, output = await run(
            "storescu", "--max-send-pdu", pdu_length, "127.0.0.1", str(served.port), file, file
        )
        assert code == 0, output
        # storescu encodes the data set anew, so its length is what can be told beforehand.
        assert len(served.stored) == 2
        assert served.stored[0] == served.stored[1]
        assert abs(len(served.stored[0]) - len(data_set_of(file))) < 200


async def test_storescu_is_told_of_a_rejection() -> None:
    from cluster.dicom.negotiation import AcceptancePolicy

    async with serving(policy=AcceptancePolicy("OTHER", check_called_ae_title=True)) as served:
        code, output = await run("echoscu", "-v", "127.0.0.1", str(served.port))
        assert code != 0
        assert "Called AE Title Not Recognized" in output


@asynccontextmanager
async def storescp(folder: Path, *options: str) -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(dcmtk("storescp")), "--log-level", "fatal", "+B", "-od", str(folder), *options, str(port)
    )
    try:
        await _listening(port)
        yield port
    finally:
        process.kill()
        await process.wait()


async def _listening(port: int) -> None:
    while True:
        try:
            association = await _to(port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        await association.release()
        return


async def _to(port: int) -> Association:
    return await connect(
        "127.0.0.1",
        port,
        calling_ae="ATRIA",
        called_ae="STORESCP",
        contexts=[
            ProposedContext(uids.VERIFICATION, (IMPLICIT_VR_LE,)),
            ProposedContext(CT, (EXPLICIT_VR_LE,)),
        ],
        limits=LIMITS,
    )


@pytest.mark.parametrize("pdu_length", ["4096", "131072"])
async def test_storescp_gets_what_we_send_byte_for_byte(tmp_path: Path, pdu_length: str) -> None:
    data_set = data_set_of(Path(str(get_testdata_file("CT_small.dcm"))))
    async with storescp(tmp_path, "-pdu", pdu_length) as port, await _to(port) as association:
        assert association.peer_max_pdu_length_bytes == int(pdu_length)
        assert await client.echo(association) == 0
        response = await client.store(
            association,
            sop_class_uid=CT,
            sop_instance_uid="1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322",
            transfer_syntax_uid=EXPLICIT_VR_LE,
            data_set=[data_set[:1001], data_set[1001:]],
        )
        assert response.status == 0
    [file] = tmp_path.iterdir()
    assert data_set_of(file) == data_set
