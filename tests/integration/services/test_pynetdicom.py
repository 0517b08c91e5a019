"""pynetdicom as the peer: its apps, PDU lengths that others choose, and the real files that pydicom ships."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, build_role, evt

from cluster.dicom import part10, uids
from cluster.dicom.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from cluster.dicom.requestor import ProposedContext
from storage_node.catalogue.matching import by_uids
from storage_node.services.status import Status
from tests.integration.services.instances import CT, instance, store
from tests.integration.services.node import EXPLICIT, Node, running_node
from tests.pynetdicom_peer import at_rest

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
STUDY_KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={CT_STUDY}")


async def app(node: Node, name: str, *arguments: str | Path) -> str:
    """Run one of pynetdicom's apps, and return what it printed; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pynetdicom", name, "127.0.0.1", str(node.port)),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_apps_echo_store_find_and_get(node: Node, tmp_path: Path) -> None:
    await app(node, "echoscu", "-v")
    assert "0x0000" in await app(node, "storescu", "-v", "-cx", CT_FILE)
    found = await app(node, "findscu", "-v", "-S", *STUDY_KEYS, "-k", "PatientName=CompressedSamples^*")
    assert "CompressedSamples^CT1" in found
    await app(node, "getscu", "-v", "-S", "-od", tmp_path, *STUDY_KEYS)
    (received,) = (path for path in tmp_path.iterdir() if path.is_file())
    assert dcmread(received) == dcmread(CT_FILE)


async def test_the_app_moves(tmp_path: Path, unused_tcp_port: int) -> None:
    destination = {"ae_title": "STORESCP", "host": "127.0.0.1", "port": unused_tcp_port}
    out = tmp_path / "out"
    out.mkdir()
    async with running_node(tmp_path / "data", destinations=[destination]) as node:
        await app(node, "storescu", "-cx", CT_FILE)
        output = await app(
            node,
            *("movescu", "-v", "-S", "--store", "--store-aet", "STORESCP", "--store-port"),
            *(str(unused_tcp_port), "-aem", "STORESCP", "-od", out, *STUDY_KEYS),
        )
    (received,) = out.iterdir()
    assert dcmread(received) == dcmread(CT_FILE), output


def _exchange(port: int, max_pdu: int) -> tuple[list[int], int, bytes]:
    """Ask and get with a PDU length; return the statuses of the query, of the retrieval, and what came."""
    received: list[bytes] = []

    def on_store(event: evt.Event) -> int:
        received.append(event.encoded_dataset(include_meta=False))
        return 0

    ae = AE()
    ae.maximum_pdu_size = max_pdu
    for uid in (uids.STUDY_ROOT_FIND, uids.STUDY_ROOT_GET, CT):
        ae.add_requested_context(uid, [EXPLICIT])
    association = ae.associate(
        "127.0.0.1",
        port,
        ae_title="ATRIA   ",
        max_pdu=max_pdu,
        ext_neg=[build_role(CT, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    assert association.is_established
    acceptor = association.acceptor
    assert acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert acceptor.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2"
    finds = [status.Status for status, _ in at_rest(association).send_c_find(query, uids.STUDY_ROOT_FIND)]
    gets = [status.Status for status, _ in at_rest(association).send_c_get(query, uids.STUDY_ROOT_GET)]
    association.release()
    return finds, gets[-1], b"".join(received)


@pytest.mark.parametrize("max_pdu", [0, 128, 129, 4096, 16_383])
async def test_pdus_are_no_longer_than_the_peer_takes(node: Node, max_pdu: int) -> None:
    data_set = instance(more=b"\xe0\x7f\x10\x00OW\0\0" + (100_000).to_bytes(4, "little") + bytes(100_000))
    async with await node.connect(ProposedContext(CT, (EXPLICIT,))) as association:
        assert (await store(association, data_set)).status == Status.SUCCESS
    found = await asyncio.to_thread(_exchange, node.port, max_pdu)
    assert found == ([Status.PENDING, Status.SUCCESS], Status.SUCCESS, data_set)


def _real_files() -> Iterator[tuple[str, str, str, str, bytes]]:
    """Return name, SOP class, SOP Instance UID, transfer syntax and data set of what has an identity."""
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm")):
        content = path.read_bytes()
        try:
            head = part10.split(content)
        except part10.NotPart10:
            continue
        header = dcmread(path, force=True, stop_before_pixels=True)
        if all(header.get(f"{entity}InstanceUID") for entity in ("Study", "Series", "SOP")):
            data_set = content[head.data_set_offset :]
            yield path.name, header.SOPClassUID, header.SOPInstanceUID, head.transfer_syntax_uid, data_set


@pytest.mark.filterwarnings("ignore")
async def test_every_real_file_is_kept_byte_for_byte_but_those_that_are_cut_short(node: Node) -> None:
    by_context = defaultdict(list)
    for name, sop_class, sop, syntax, data_set in _real_files():
        by_context[sop_class, syntax].append((name, sop, data_set))
    assert len({syntax for _, syntax in by_context}) >= 10
    stored, refused = [], []
    for (sop_class, syntax), files in by_context.items():
        async with await node.connect(ProposedContext(sop_class, (syntax,))) as association:
            for name, sop, data_set in files:
                response = await store(association, data_set, sop=sop, sop_class=sop_class)
                if response.status == Status.SUCCESS:
                    stored.append(name)
                    assert data_set in await _kept(node, sop)
                else:
                    assert response.status == Status.CANNOT_UNDERSTAND
                    refused.append(name)
    assert len(stored) > 40
    assert sorted(refused) == ["MR_truncated.dcm", "rtplan_truncated.dcm"]


async def _kept(node: Node, sop: str) -> list[bytes]:
    """Return the data sets of all versions of the instances of this UID."""
    instances = [match.version.instance async for match in node.grid.find(by_uids(sop=[sop]), 100)]
    kept = []
    for found in instances:
        for row in await node.grid.rows_of(found):
            content = b"".join([piece async for piece in node.grid.read(row.version)])
            kept.append(content[row.version.data_set_offset_bytes :])
    return kept
