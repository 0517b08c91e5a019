"""pydicom is the judge: on every file that it ships, and on data sets that it writes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from cluster.dicom.elements import pack, text, unpack
from cluster.dicom.header import HeaderReader
from cluster.dicom.part10 import file_meta, split
from tests.unit.header.encoding import BIG_ENDIAN, EXPLICIT, IMPLICIT

_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_CUT_SHORT = ("MR_truncated.dcm", "rtplan_truncated.dcm")


def _shipped() -> Iterator[Path]:
    """Yield the files that lie in the package: what else there is would be fetched from afar."""
    for path in sorted(Path(pydicom.__file__).parent.joinpath("data").rglob("*")):
        if path.is_file() and (path.suffix in ("", ".dcm") or path.read_bytes()[128:132] == b"DICM"):
            yield path


FILES = [path for path in _shipped() if path.name not in ("README", "no_meta.dcm", "ExplVR_BigEndNoMeta.dcm")]

CHARACTER_SET_FILES = [path for path in FILES if path.parent.name == "charset_files"]


def _read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = pydicom.dcmread(path)
        except InvalidDicomError:
            read = pydicom.dcmread(path, force=True)
        read.walk(lambda *_: None)
    return read


def _identity(reader: HeaderReader) -> tuple[str | None, ...]:
    return (
        reader.sop_class_uid,
        reader.sop_instance_uid,
        reader.study_instance_uid,
        reader.series_instance_uid,
    )


def _uid(value: object) -> str | None:
    return str(value).strip(" \0") or None if value else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_identity_is_that_which_pydicom_reads(path: Path) -> None:
    file = path.read_bytes()
    part10 = split(file)
    reader = HeaderReader(part10.transfer_syntax_uid)
    reader.feed(memoryview(file)[part10.data_set_offset :])
    if path.name not in _CUT_SHORT:
        reader.close()
        assert reader.missing_bytes == 0
    expected = _read(path)
    got = (
        reader.sop_class_uid,
        reader.sop_instance_uid,
        reader.study_instance_uid,
        reader.series_instance_uid,
    )
    assert got == tuple(_uid(expected.get(keyword)) for keyword in _KEYWORDS)
    if "DICM" in str(file[128:132]):
        assert part10.transfer_syntax_uid == expected.file_meta.get("TransferSyntaxUID", IMPLICIT)


@pytest.mark.parametrize("path", CHARACTER_SET_FILES, ids=lambda path: path.name)
def test_names_are_decoded_as_pydicom_decodes_them(path: Path) -> None:
    file = path.read_bytes()
    part10 = split(file)
    reader = HeaderReader(part10.transfer_syntax_uid)
    reader.feed(file[part10.data_set_offset :])
    kept = unpack(pack(reader.elements))
    expected = _read(path)
    if 0x00100010 in expected:
        assert (text(kept, 0x00100010) or "").rstrip("=") == str(expected.PatientName).strip()


_UID = st.from_regex(r"[1-9]{1,3}(\.[1-9][0-9]{0,5}){1,5}", fullmatch=True)
_NAMES = st.text("ABCDEFGHIJK abcdefghijk^", max_size=20)


@st.composite
def _data_sets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    made = Dataset()
    for keyword in _KEYWORDS:
        if draw(st.booleans()):
            setattr(made, keyword, draw(_UID))
    made.PatientName = draw(_NAMES)
    made.Rows = draw(st.integers(0, 65535))
    made.add_new(0x00091010, "UN", draw(st.binary(max_size=30).filter(lambda value: len(value) % 2 == 0)))
    made.add_new(0x00400555, "UT", draw(st.sampled_from(["short", "long " * 500])))
    if depth:
        items = Sequence(draw(st.lists(_data_sets(depth - 1), max_size=2)))
        for inner in items:
            inner.is_undefined_length_sequence_item = draw(st.booleans())
        made.ReferencedImageSequence = items
        made["ReferencedImageSequence"].is_undefined_length = draw(st.booleans())
    return made


@settings(max_examples=80, deadline=None)
@given(_data_sets(), st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]), st.integers(1, 50))
def test_what_pydicom_writes_is_read(written: Dataset, syntax: str, size: int) -> None:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = syntax != BIG_ENDIAN, syntax == IMPLICIT
    write_dataset(out, written)
    data = out.getvalue()
    reader = HeaderReader(syntax)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    reader.close()
    got = (
        reader.sop_class_uid,
        reader.sop_instance_uid,
        reader.study_instance_uid,
        reader.series_instance_uid,
    )
    assert got == tuple(written.get(keyword) for keyword in _KEYWORDS)
    assert (text(reader.elements, 0x00100010) or "") == str(written.PatientName).strip()
    assert int.from_bytes(reader.elements[0x00280010].value, "little") == written.Rows


@given(_UID, _UID, st.sampled_from([IMPLICIT, EXPLICIT, "1.2.3.40"]))
def test_file_meta_is_read_back_by_pydicom_and_by_us(sop_class: str, sop_instance: str, syntax: str) -> None:
    meta = file_meta(sop_class, sop_instance, syntax)
    read = pydicom.dcmread(BytesIO(meta)).file_meta
    assert read.FileMetaInformationGroupLength == len(meta) - 144
    assert read.FileMetaInformationVersion == b"\0\1"
    assert (read.MediaStorageSOPClassUID, read.MediaStorageSOPInstanceUID) == (sop_class, sop_instance)
    assert read.TransferSyntaxUID == syntax
    assert sorted(read.keys()) == [
        0x00020000,
        0x00020001,
        0x00020002,
        0x00020003,
        0x00020010,
        0x00020012,
        0x00020013,
    ]
    ours = split(meta)
    assert (ours.sop_class_uid, ours.sop_instance_uid) == (sop_class, sop_instance)
    assert (ours.transfer_syntax_uid, ours.data_set_offset) == (syntax, len(meta))
