from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from chaos.real_files import gather
from deploy.client.files import NotStorable, recognise


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(gather(tmp_path_factory.mktemp("real")).studies)


def test_real_files_are_about_160_and_each_an_instance_of_its_own(real: list[Path]) -> None:
    assert len(real) > 150
    assert len({recognise(path).sop_instance_uid for path in real}) == len(real)


def test_real_files_are_recognised_as_pydicom_does(real: list[Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in real:
            file, judge = recognise(path), dcmread(path, stop_before_pixels=True)
            assert file.sop_class_uid == judge.SOPClassUID
            assert file.sop_instance_uid == judge.SOPInstanceUID
            assert file.transfer_syntax_uid == judge.file_meta.TransferSyntaxUID


def test_the_data_set_is_what_follows_the_file_meta_information(real: list[Path]) -> None:
    for path in real:
        file = recognise(path)
        content = path.read_bytes()
        meta_length = int.from_bytes(content[140:144], "little")  # (0002,0000), PS3.10 7.1
        assert b"".join(file.data_set()) == content[144 + meta_length :]


def test_the_data_sets_own_uid_is_taken_where_the_file_meta_information_differs(tmp_path: Path) -> None:
    image = dcmread(str(get_testdata_file("CT_small.dcm")))
    image.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    image.save_as(tmp_path / "image.dcm")
    assert recognise(tmp_path / "image.dcm").sop_instance_uid == image.SOPInstanceUID


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("README.txt", "no DICOM"),
        ("dicomdirtests/DICOMDIR", "a DICOMDIR"),
        ("nested_priv_SQ.dcm", "no SOP instance"),
        ("no such file", "cannot be read"),
    ],
)
def test_what_is_not_storable_is_told_with_the_reason(name: str, reason: str) -> None:
    folder = Path(str(get_testdata_file("CT_small.dcm"))).parent
    with pytest.raises(NotStorable, match=reason):
        recognise(folder / name)


@given(
    st.one_of(st.binary(max_size=400), st.binary(max_size=300).map(lambda tail: bytes(128) + b"DICM" + tail))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_bytes_are_recognised_or_not_storable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        file = recognise(path)
    except NotStorable:
        return
    assert file.sop_class_uid
    assert file.sop_instance_uid


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotStorable, match="no regular file"):
        recognise(tmp_path / "pipe")
