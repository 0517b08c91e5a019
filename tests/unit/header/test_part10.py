"""File Meta Information: ours is frozen, others' is read whatever it is like."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.dicom.part10 import NotPart10, file_meta, split
from tests.unit.header.encoding import BIG_ENDIAN, EXPLICIT, IMPLICIT, JPEG, data_set, element


def test_what_comes_before_a_data_set_is_frozen_for_ever() -> None:
    meta = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT)
    assert (
        hashlib.sha256(meta).hexdigest() == "ed7fc32b55966cb4da223bd9a5d26983b0403fb97df04e732257c3fbba3cc328"
    )
    assert (meta[:128], meta[128:132]) == (bytes(128), b"DICM")


def test_a_uid_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="70000"):
        file_meta("1.2", "1" * 70_000, EXPLICIT)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_bare_data_set_is_recognised(syntax: str) -> None:
    part10 = split(data_set(syntax=syntax))
    assert (part10.transfer_syntax_uid, part10.data_set_offset, part10.sop_class_uid) == (syntax, 0, None)


def test_file_meta_without_preamble_is_read() -> None:
    bare = file_meta("1.2", "1.2.3", JPEG)[132:]
    part10 = split(bare + data_set())
    assert (part10.transfer_syntax_uid, part10.data_set_offset) == (JPEG, len(bare))
    assert split(b"DICM" + bare).data_set_offset == len(bare) + 4


def test_a_preamble_without_file_meta_is_read() -> None:
    part10 = split(bytes(128) + b"DICM" + data_set(syntax=IMPLICIT))
    assert (part10.transfer_syntax_uid, part10.data_set_offset) == (IMPLICIT, 132)


def test_file_meta_in_implicit_vr_is_read() -> None:
    meta = element(0x00020010, "UI", b"1.2.3\0", syntax=IMPLICIT)
    assert split(bytes(128) + b"DICM" + meta + data_set()).transfer_syntax_uid == "1.2.3"


def test_file_meta_cut_short_is_told() -> None:
    with pytest.raises(NotPart10, match="cut short"):
        split(file_meta("1.2", "1.2.3", JPEG)[:-4])


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.7 and so on", b"\x89PNG\r\n\x1a\n" + bytes(200), b"GIF89a" * 40]
)
def test_what_is_no_dicom_is_told(content: bytes) -> None:
    with pytest.raises(NotPart10):
        split(content)


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for content in (data, bytes(128) + b"DICM" + data, b"\x02\x00" + data):
        try:
            part10 = split(content)
        except NotPart10:
            continue
        assert 0 <= part10.data_set_offset <= len(content)
