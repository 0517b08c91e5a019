from __future__ import annotations

import struct
from io import BytesIO
from itertools import permutations
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from cluster.dicom import part10
from storage_node.services.conversion import NATIVE, NotConvertible, convert

EXPLICIT, IMPLICIT, _ = NATIVE
FILES = ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "image_dfl.dcm", "nested_priv_SQ.dcm"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("over", "to"), list(permutations(NATIVE, 2)))
def test_values_stay_what_they_were_through_any_native_transfer_syntax(name: str, over: str, to: str) -> None:
    path = Path(str(get_testdata_file(name)))
    whole = path.read_bytes()
    head = part10.split(whole)
    stored = whole[head.data_set_offset :]
    there = convert(stored, head.transfer_syntax_uid, over)
    back = convert(there, over, to)
    meta = part10.file_meta(head.sop_class_uid or "1.2", head.sop_instance_uid or "1.2", to)
    original = dcmread(path)
    again = dcmread(BytesIO(meta + back))
    assert [(e.tag, e.value) for e in again.iterall() if e.VR != "SQ"] == [
        (e.tag, e.value) for e in original.iterall() if e.VR != "SQ"
    ]


def test_what_is_compressed_or_broken_is_not_converted() -> None:
    with pytest.raises(NotConvertible, match="only native"):
        convert(b"", "1.2.840.10008.1.2.4.70", NATIVE[0])
    with pytest.raises(NotConvertible):
        convert(b"not deflated", NATIVE[2], NATIVE[0])


def element(tag: int, vr: str, value: bytes, syntax: str) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if syntax == IMPLICIT:
        return struct.pack("<HHI", group, number, len(value)) + value
    if vr in ("SQ", "UN", "OW"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


ODD = [
    (0x00080005, "CS", b"ISO_IR 192"),
    (0x00080008, "CS", b"A\\\\B\\"),
    (0x00100010, "PN", b"M\xfcller^Otto^^^== "),
    (0x00100030, "DA", b"not a date"),
    (0x00180050, "DS", b" 1.50 x "),
    (0x0020000D, "UI", b"1.2.3\0\0\0"),
    (0x00204000, "LT", b" a\\b \xff\0"),
    (0x00280010, "US", b"\1"),
    (0x00280103, "US", b"\1\0"),
    (0x00280106, "SS", b"\xff\xff"),
    (0x00290010, "LO", b"NOBODY KNOWS"),
    (0x00291001, "UN", b"\1\2\3\4"),
]
"""What senders write: no text of the character set, no value of the VR, not the size of the VR."""


@pytest.mark.parametrize(("source", "target"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)])
def test_each_value_stays_byte_by_byte_however_odd(source: str, target: str) -> None:
    def data_set(syntax: str) -> bytes:
        return b"".join(element(tag, vr, value, syntax) for tag, vr, value in ODD)

    assert convert(data_set(source), source, target) == data_set(target)


def test_what_an_item_holds_stays_byte_by_byte_too() -> None:
    name = b"M\xfcller"
    inner = element(0x00100010, "PN", name, IMPLICIT)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    converted = convert(element(0x00081140, "SQ", item, IMPLICIT), IMPLICIT, EXPLICIT)
    assert element(0x00100010, "PN", name, EXPLICIT) in converted


def test_why_something_is_not_converted_quotes_no_value() -> None:
    broken = element(0x00100010, "PN", b"Secret^Name", EXPLICIT) + element(
        0x00081140, "SQ", b"Secret", EXPLICIT
    )
    with pytest.raises(NotConvertible) as caught:
        convert(broken, EXPLICIT, IMPLICIT)
    assert "Secret" not in str(caught.value)
