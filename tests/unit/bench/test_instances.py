from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import UID

from tests.bench import instances, pdus
from tests.bench.instances import Uids


def _fragments(message: bytes) -> list[tuple[int, bytes]]:
    """Cut a message into its PDVs: control header and fragment."""
    found, place = [], 0
    while place < len(message):
        pdu_type, length, pdv_length, context, control = struct.unpack_from(">BxIIBB", message, place)
        assert pdu_type == pdus.P_DATA_TF
        assert pdv_length == length - 4
        assert context == pdus.CONTEXT_ID
        found.append((control, message[place + 12 : place + 6 + length]))
        place += 6 + length
    assert place == len(message)
    return found


def _of(number: int) -> Uids:
    return instances.uids(run=7, association=3, number=number)


def test_a_ct_image_has_526_kb_and_some_hundred_elements_that_pydicom_reads() -> None:
    made = instances.ct_image(_of(5))
    data_set = made.header + instances.pixels(made.pixel_bytes)
    assert 525_000 < len(data_set) < 530_000
    read = dcmread(BytesIO(data_set), force=True)
    assert 95 <= len(read) <= 110
    assert read.SOPClassUID == instances.CT_IMAGE_STORAGE
    assert read.SOPInstanceUID == _of(5).instance.decode()
    assert read.PixelData == instances.pixels(made.pixel_bytes)
    assert (read.Rows, read.Columns, read.BitsAllocated) == (512, 512, 16)
    assert all(element.value is not None for element in read.iterall())


def test_a_multi_frame_image_of_2048_frames_has_a_gibibyte_of_pixels() -> None:
    made = instances.multi_frame(_of(0), frames=2048)
    assert made.pixel_bytes == 1 << 30
    assert dcmread(BytesIO(made.header + b"\0\0"), force=True).NumberOfFrames == 2048


def test_each_instance_has_uids_of_its_own_and_shares_series_and_study_with_its_neighbours() -> None:
    many = [_of(number) for number in range(250)]
    assert len({uids.instance for uids in many}) == 250
    assert len({uids.series for uids in many}) == 3
    assert len({uids.study for uids in many}) == 1
    other = instances.uids(run=7, association=4, number=0)
    assert not {other.study, other.series, other.instance} & {many[0].study, many[0].series, many[0].instance}
    for uid in (many[0].study, many[0].series, many[0].instance):
        assert len(uid) == instances.UID_LENGTH
        assert UID(uid.decode()).is_valid


@given(max_pdu=st.integers(4096, 2 * pdus.LARGEST_PDU_BYTES), number=st.integers(0, 10**9))
def test_a_message_is_whole_and_its_own_whatever_the_pdu_length(max_pdu: int, number: int) -> None:
    messages = pdus.CtMessages(instances.ct_image(_of(0)), max_pdu)
    (message,) = messages.of(_of(number))
    (control, command), *data = _fragments(bytes(message))
    assert control == 3
    assert _of(number).instance in command
    assert [flag for flag, _ in data] == [0] * (len(data) - 1) + [2]
    assert all(len(fragment) + 6 <= max_pdu for _, fragment in data)
    made = instances.ct_image(_of(number))
    assert b"".join(fragment for _, fragment in data) == made.header + instances.pixels(made.pixel_bytes)


def test_a_pdu_length_that_would_cut_a_uid_is_refused() -> None:
    header = instances.ct_image(_of(0)).header
    cut_in_a_uid = header.index(_of(0).instance) + 10
    with pytest.raises(ValueError, match="straddles"):
        pdus.CtMessages(instances.ct_image(_of(0)), cut_in_a_uid + pdus.PDV_HEAD_BYTES)


def test_a_multi_frame_message_is_whole() -> None:
    made = instances.multi_frame(_of(1), frames=3)
    (control, _), *data = _fragments(b"".join(pdus.multi_frame_message(made, 65536)))
    assert control == 3
    assert [flag for flag, _ in data] == [0] * (len(data) - 1) + [2]
    assert sum(len(fragment) for _, fragment in data) == len(made.header) + made.pixel_bytes
