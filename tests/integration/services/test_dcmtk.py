"""DCMTK as the client: what it sends comes back as it was, byte by byte."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from cluster.dicom import part10
from tests.integration.services.node import Node, arguments, running_node
from tests.tools import dcmtk

pytestmark = pytest.mark.skipif(
    dcmtk("storescu") is None, reason="DCMTK is not installed (Debian package dcmtk)"
)

CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


def _file(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def _data_set(file: Path) -> bytes:
    content = file.read_bytes()
    return content[part10.split(content).data_set_offset :]


def _stored(node: Node) -> bytes:
    """Return the data set of the CT image, or of the only one, as it lies at the site that is left."""
    objects = node.settings.data_folder / "site-b" / "objects"
    files = list((objects / CT_STUDY).rglob("*.dcm")) or list(objects.rglob("*.dcm"))
    assert len(files) == 1
    return _data_set(files[0])


def _assert_equal_elements(received: Path, source: Path) -> None:
    """Compare values: DCMTK's storescu leaves out trailing padding and group lengths when it sends."""
    left_out = (0xFFFCFFFC,)
    values = [
        {e.tag: e.value for e in dcmread(file) if e.tag not in left_out and e.tag.element}
        for file in (received, source)
    ]
    assert values[0] == values[1]


async def test_echo_is_answered(node: Node) -> None:
    await node.dcmtk("echoscu", *arguments(node))


async def test_what_is_sent_bit_by_bit_comes_back_by_get_bit_by_bit(node: Node, tmp_path: Path) -> None:
    await node.dcmtk("storescu", *arguments(node), _file("CT_small.dcm"))
    out = tmp_path / "out"
    out.mkdir()
    await node.dcmtk(
        "getscu",
        *arguments(node, "-S", "+B", "-od", str(out)),
        "-k",
        "0008,0052=STUDY",
        "-k",
        f"0020,000D={CT_STUDY}",
    )
    (received,) = out.iterdir()
    assert _data_set(received) == _stored(node)
    _assert_equal_elements(received, _file("CT_small.dcm"))


@pytest.mark.parametrize(
    ("name", "propose"),
    [("JPEG2000.dcm", "-xw"), ("MR_small_RLE.dcm", "-xr"), ("SC_rgb_small_odd_jpeg.dcm", "-xy")],
)
async def test_compressed_images_stay_compressed(node: Node, tmp_path: Path, name: str, propose: str) -> None:
    source = _file(name)
    await node.dcmtk("storescu", *arguments(node, propose), source)
    out = tmp_path / "out"
    out.mkdir()
    study = dcmread(source, stop_before_pixels=True).StudyInstanceUID
    accept = propose.replace("-", "+")
    await node.dcmtk(
        "getscu",
        *arguments(node, "-S", "+B", accept, "-od", str(out)),
        "-k",
        "0008,0052=STUDY",
        "-k",
        f"0020,000D={study}",
    )
    (received,) = out.iterdir()
    assert _data_set(received) == _stored(node)
    _assert_equal_elements(received, source)


async def test_find_answers_at_every_level_of_both_models(node: Node) -> None:
    await node.dcmtk("storescu", *arguments(node), _file("CT_small.dcm"), _file("MR_small.dcm"))
    image = dcmread(_file("CT_small.dcm"))
    keys = [("0010,0020", image.PatientID), ("0020,000D", CT_STUDY)]
    keys += [("0020,000E", image.SeriesInstanceUID), ("0008,0018", image.SOPInstanceUID)]
    for model, levels in (
        ("-P", ["PATIENT", "STUDY", "SERIES", "IMAGE"]),
        ("-S", ["STUDY", "SERIES", "IMAGE"]),
    ):
        for level in levels:
            depth = ["PATIENT", "STUDY", "SERIES", "IMAGE"].index(level)
            above = keys[0 if model == "-P" else 1 : depth]
            asked = [f"{tag}={value}" for tag, value in above] + [keys[depth][0], f"0008,0052={level}"]
            options = [word for key in asked for word in ("-k", key)]
            output = await node.dcmtk("findscu", *arguments(node, "-v", model), *options)
            assert str(keys[depth][1]) in output, (model, level, output)
            expected = 2 if not above else 1
            assert output.count("Find Response:") + output.count("Find Response ") >= 1
            assert output.count(f"[{level}") >= expected, (model, level, output)


async def test_find_without_a_unique_key_above_is_a900(node: Node) -> None:
    output = await node.dcmtk(
        "findscu", *arguments(node, "-d", "-S"), "-k", "0008,0052=SERIES", "-k", "0020,000E"
    )
    assert "0xa900" in output.lower()


async def test_move_to_an_unknown_destination_is_a801(node: Node) -> None:
    _, output = await node.dcmtk_result(
        "movescu",
        *arguments(node, "-d", "-S", "-aem", "NOBODY"),
        "-k",
        "0008,0052=STUDY",
        "-k",
        "0020,000D=1.2",
    )
    assert "0xa801" in output.lower()


async def test_move_sends_to_the_destination_and_counts(tmp_path: Path, unused_tcp_port: int) -> None:
    out = tmp_path / "received"
    out.mkdir()
    destination = {"ae_title": "DEST", "host": "127.0.0.1", "port": unused_tcp_port}
    storescp = dcmtk("storescp")
    assert storescp is not None
    async with running_node(tmp_path / "data", destinations=[destination]) as node:
        await node.dcmtk("storescu", *arguments(node), _file("CT_small.dcm"), _file("MR_small.dcm"))
        receiver = await asyncio.create_subprocess_exec(
            storescp, "+B", "-v", "-od", str(out), str(unused_tcp_port), stderr=asyncio.subprocess.PIPE
        )
        try:
            await _listening(unused_tcp_port)
            output = await node.dcmtk(
                "movescu",
                *arguments(node, "-d", "-S", "-aem", "DEST"),
                "-k",
                "0008,0052=STUDY",
                "-k",
                f"0020,000D={CT_STUDY}",
            )
        finally:
            receiver.terminate()
            await receiver.communicate()
    assert "Completed Suboperations       : 1" in output
    (received,) = out.iterdir()
    assert _data_set(received) == _stored(node)
    _assert_equal_elements(received, _file("CT_small.dcm"))


async def test_move_to_a_destination_that_is_away_fails_with_the_list_of_what_failed(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    destination = {"ae_title": "DEST", "host": "127.0.0.1", "port": unused_tcp_port}
    async with running_node(tmp_path / "data", destinations=[destination]) as node:
        await node.dcmtk("storescu", *arguments(node), _file("CT_small.dcm"))
        _, output = await node.dcmtk_result(
            "movescu",
            *arguments(node, "-d", "-S", "-aem", "DEST"),
            "-k",
            "0008,0052=STUDY",
            "-k",
            f"0020,000D={CT_STUDY}",
        )
    assert "0xa702" in output.lower()
    assert "FailedSOPInstanceUIDList" in output


async def test_a_study_is_found_and_got_with_a_single_site_left(node: Node, tmp_path: Path) -> None:
    await node.dcmtk("storescu", *arguments(node), _file("CT_small.dcm"))
    for name in ("site-a", "site-c"):
        shutil.move(node.settings.data_folder / name, tmp_path / name)
    output = await node.dcmtk(
        "findscu", *arguments(node, "-d", "-S"), "-k", "0008,0052=STUDY", "-k", "0020,000D"
    )
    assert CT_STUDY in output
    assert "the latest may be missing" in output
    out = tmp_path / "out"
    out.mkdir()
    await node.dcmtk(
        "getscu",
        *arguments(node, "-S", "+B", "-od", str(out)),
        "-k",
        "0008,0052=STUDY",
        "-k",
        f"0020,000D={CT_STUDY}",
    )
    (received,) = out.iterdir()
    assert _data_set(received) == _stored(node)
    _assert_equal_elements(received, _file("CT_small.dcm"))
    code, output = await node.dcmtk_result("storescu", *arguments(node, "-d"), _file("MR_small.dcm"))
    assert "0xa700" in output.lower(), (code, output)


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
