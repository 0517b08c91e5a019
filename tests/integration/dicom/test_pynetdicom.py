from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from cluster.dicom import client, uids
from cluster.dicom.association import Association
from cluster.dicom.requestor import ProposedContext, connect
from tests.integration.dicom.peers import (
    CT,
    EXPLICIT_VR_LE,
    IMPLICIT_VR_LE,
    LIMITS,
    reply,
    serving,
)
from tests.pynetdicom_peer import at_rest

IDENTIFIER = bytes.fromhex("08005200") + (6).to_bytes(4, "little") + b"STUDY "


def _ct() -> Dataset:
    return dcmread(Path(str(get_testdata_file("CT_small.dcm"))))


@pytest.mark.parametrize("max_pdu", [0, 4097, 16382, 1 << 20])
async def test_pynetdicom_stores_with_us(max_pdu: int) -> None:
    instance = _ct()

    def send(port: int) -> list[int]:
        ae = AE("PYNETDICOM")
        ae.maximum_pdu_size = max_pdu
        ae.add_requested_context(CT, EXPLICIT_VR_LE)
        ae.add_requested_context(uids.VERIFICATION)
        association = ae.associate("127.0.0.1", port, max_pdu=max_pdu)
        assert association.is_established
        statuses = [at_rest(association).send_c_echo().Status]
        statuses += [at_rest(association).send_c_store(instance).Status for _ in range(3)]
        association.release()
        return statuses

    async with serving() as served:
        assert await asyncio.to_thread(send, served.port) == [0, 0, 0, 0]
        assert await served.endings.get() == "released"
    stored = dcmread(BytesIO(served.stored[0]), force=True)
    assert stored.SOPInstanceUID == instance.SOPInstanceUID
    assert stored.PixelData == instance.PixelData
    assert served.stored == [served.stored[0]] * 3


async def test_pynetdicom_gets_instances_from_us_with_role_selection() -> None:
    instance = _ct()
    data = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()[-39_000:]

    async def handle(association: Association) -> None:
        message = await association.receive()
        response = await client.store(
            association,
            sop_class_uid=CT,
            sop_instance_uid=instance.SOPInstanceUID,
            transfer_syntax_uid=EXPLICIT_VR_LE,
            data_set=[data],
        )
        assert response.status == 0
        await association.send(message.context.context_id, reply(message))
        await association.receive()

    received: list[bytes] = []

    def on_store(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return 0

    def get(port: int) -> list[int]:
        ae = AE("PYNETDICOM")
        ae.add_requested_context(CT, EXPLICIT_VR_LE)
        ae.add_requested_context(uids.STUDY_ROOT_GET)
        association = ae.associate(
            "127.0.0.1",
            port,
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, on_store)],
        )
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        statuses = [
            status.Status for status, _ in at_rest(association).send_c_get(query, uids.STUDY_ROOT_GET)
        ]
        association.release()
        return statuses

    async with serving(handle) as served:
        assert await asyncio.to_thread(get, served.port) == [0]
    assert received == [data]


@contextmanager
def _scp(**handlers: Any) -> Iterator[int]:
    ae = AE("PYNETDICOM")
    ae.add_supported_context(CT, EXPLICIT_VR_LE)
    for uid in (uids.VERIFICATION, uids.STUDY_ROOT_FIND, uids.STUDY_ROOT_MOVE):
        ae.add_supported_context(uid)
    bound: list[Any] = [(getattr(evt, name), handler) for name, handler in handlers.items()]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=bound)
    assert server is not None
    assert server.socket is not None
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


async def _to(port: int) -> Association:
    services = (uids.VERIFICATION, uids.STUDY_ROOT_FIND, uids.STUDY_ROOT_MOVE)
    return await connect(
        "127.0.0.1",
        port,
        calling_ae="ATRIA",
        called_ae="PYNETDICOM",
        contexts=[
            ProposedContext(CT, (EXPLICIT_VR_LE,)),
            ProposedContext("1.2.3.4", (EXPLICIT_VR_LE,)),
            *(ProposedContext(uid, (IMPLICIT_VR_LE,)) for uid in services),
        ],
        limits=LIMITS,
    )


async def test_we_store_with_pynetdicom() -> None:
    received: list[bytes] = []

    def on_store(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return 0xB007 if len(received) == 2 else 0

    data = bytes(1_000_003)
    with _scp(EVT_C_STORE=on_store) as port:
        async with await _to(port) as association:
            assert association.contexts_for("1.2.3.4") == []
            assert await client.echo(association) == 0
            for status in (0, 0xB007):
                response = await client.store(
                    association,
                    sop_class_uid=CT,
                    sop_instance_uid="1.2.3",
                    transfer_syntax_uid=EXPLICIT_VR_LE,
                    data_set=[data],
                )
                assert response.status == status
    assert received == [data, data]


async def test_we_query_and_move_with_pynetdicom() -> None:
    def on_find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(3):
            match = Dataset()
            match.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            match.StudyInstanceUID = f"1.2.{number}"
            yield 0xFF00, match

    def on_move(event: Any) -> Iterator[Any]:
        yield None, None

    with _scp(EVT_C_FIND=on_find, EVT_C_MOVE=on_move) as port:
        async with await _to(port) as association:
            answers = [a async for a in client.find(association, uids.STUDY_ROOT_FIND, IDENTIFIER)]
            assert [response.status for response, _ in answers] == [0xFF00] * 3 + [0]
            found = [dcmread(BytesIO(data), force=True) for _, data in answers if data is not None]
            assert [match.StudyInstanceUID for match in found] == ["1.2.0", "1.2.1", "1.2.2"]
            moves = client.move(association, uids.STUDY_ROOT_MOVE, IDENTIFIER, "NOBODY")
            assert [response.status async for response in moves] == [0xA801]


async def test_an_abort_by_pynetdicom_reaches_the_handler() -> None:
    def send(port: int) -> None:
        ae = AE("PYNETDICOM")
        ae.add_requested_context(uids.VERIFICATION)
        ae.associate("127.0.0.1", port).abort()

    async with serving() as served:
        await asyncio.to_thread(send, served.port)
        assert await served.endings.get() == "aborted"


async def test_our_abort_reaches_pynetdicom() -> None:
    async def handle(association: Association) -> None:
        await association.receive()
        association.abort()

    def send(port: int) -> bool:
        ae = AE("PYNETDICOM")
        ae.add_requested_context(uids.VERIFICATION)
        association = ae.associate("127.0.0.1", port)
        at_rest(association).send_c_echo()
        association.join(5)
        return association.is_aborted

    async with serving(handle) as served:
        assert await asyncio.to_thread(send, served.port)
