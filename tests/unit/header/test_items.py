"""The items of a sequence are read from its bytes, however they are encoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from cluster.dicom.elements import Element
from cluster.dicom.header import HeaderReader
from cluster.dicom.items import items_of
from cluster.dicom.transfer_syntaxes import EXPLICIT_VR_LE, IMPLICIT_VR_LE

REQUESTS, PROTOCOL, ID = 0x00400275, 0x00400008, 0x00400009


def _encoded(*, implicit: bool, undefined: bool) -> bytes:
    code = Dataset()
    code.CodeValue = "C1"
    request = Dataset()
    request.ScheduledProcedureStepID = "S1"
    request.ScheduledProtocolCodeSequence = Sequence([code, code])
    request.RequestedProcedureComments = "behind what is nested"
    data_set = Dataset()
    data_set.RequestAttributesSequence = Sequence([request, Dataset(), request])
    for item in data_set.RequestAttributesSequence:
        item.is_undefined_length_sequence_item = undefined
    for nested in (data_set["RequestAttributesSequence"], request["ScheduledProtocolCodeSequence"]):
        nested.is_undefined_length = undefined
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, data_set)
    return buffer.getvalue()


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_items_are_read_as_the_header_keeps_them(implicit: bool, undefined: bool) -> None:
    reader = HeaderReader(IMPLICIT_VR_LE if implicit else EXPLICIT_VR_LE)
    reader.feed(_encoded(implicit=implicit, undefined=undefined))
    reader.close()
    first, empty, last = items_of(reader.elements[REQUESTS])
    assert first == last
    assert empty == {}
    assert first[ID].value == b"S1"
    assert [item[0x00080100].value for item in items_of(first[PROTOCOL])] == [b"C1", b"C1"]
    assert first[0x00401400].value.strip() == b"behind what is nested"


@given(st.integers(0, 200), st.booleans())
def test_what_is_cut_short_gives_what_it_has(length: int, undefined: bool) -> None:
    whole = _encoded(implicit=False, undefined=undefined)[12:]
    items = items_of(Element("SQ", whole[:length]))
    assert len(items) <= 3
    assert all(item.get(ID, Element("SH", b"S1")).value == b"S1" for item in items)


@given(st.binary(max_size=60), st.sampled_from(["SQ", "UN", None]))
def test_nothing_in_a_sequence_raises(value: bytes, vr: str | None) -> None:
    for item in items_of(Element(vr, b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + value)):
        for nested in item.values():
            items_of(nested)
