from __future__ import annotations

from io import BytesIO
from itertools import permutations
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from cluster.dicom import part10
from storage_node.services.conversion import NATIVE, NotConvertible, convert

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
