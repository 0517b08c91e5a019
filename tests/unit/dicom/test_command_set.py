from __future__ import annotations

import dataclasses
import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode as pynetdicom_decode

from cluster.dicom.command_set import (
    NO_DATA_SET,
    CommandField,
    CommandSet,
    CommandSetError,
    decode,
    encode,
)

numbers = st.integers(0, 0xFFFF)
uids = st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=16)
tags = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4).map(tuple)
_VALUES = {"int | None": numbers, "int": numbers, "str | None": texts, "tuple[int, ...] | None": tags}


def _command_set(values: dict[str, Any]) -> CommandSet:
    return CommandSet(**values)


command_sets = st.fixed_dictionaries(
    {"command_field": numbers, "message_id": numbers, "message_id_being_responded_to": numbers},
    optional={
        field.name: uids if field.name.endswith("_uid") else _VALUES[str(field.type)]
        for field in dataclasses.fields(CommandSet)
        if field.name
        not in ("command_field", "message_id", "message_id_being_responded_to", "command_data_set_type")
    },
).map(_command_set)


@given(command_sets, st.booleans())
def test_a_command_set_survives_its_encoding(command: CommandSet, has_data_set: bool) -> None:
    decoded = decode(encode(command, has_data_set=has_data_set))
    assert decoded.has_data_set == has_data_set
    assert dataclasses.replace(decoded, command_data_set_type=NO_DATA_SET) == command


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_its_own_error(data: bytes) -> None:
    with suppress(CommandSetError):
        decode(data)


@given(command_sets, st.data())
def test_what_is_cut_short_is_refused_or_lacks_whole_elements(
    command: CommandSet, data: st.DataObject
) -> None:
    encoded = encode(command, has_data_set=False)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        decoded = decode(cut)
    except CommandSetError:
        return
    for field in dataclasses.fields(CommandSet):
        assert getattr(decoded, field.name) in (getattr(command, field.name), None)


def test_pynetdicom_reads_what_we_write() -> None:
    command = CommandSet(
        CommandField.C_STORE_RQ,
        message_id=7,
        affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        affected_sop_instance_uid="1.2.3",
        priority=2,
        move_originator_application_entity_title="SOMEBODY",
        move_originator_message_id=9,
    )
    read = pynetdicom_decode(BytesIO(encode(command, has_data_set=True)), True, True)
    assert read.CommandField == 1
    assert read.MessageID == 7
    assert read.AffectedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert read.AffectedSOPInstanceUID == "1.2.3"
    assert read.Priority == 2
    assert read.MoveOriginatorApplicationEntityTitle == "SOMEBODY"
    assert read.MoveOriginatorMessageID == 9
    assert read.CommandDataSetType != NO_DATA_SET
    assert read.CommandGroupLength == len(encode(command, has_data_set=True)) - 12


def test_we_read_what_pynetdicom_writes() -> None:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 1
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    primitive.DataSet = BytesIO(b"1234")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    pdata = next(message.encode_msg(1, 16384)).presentation_data_value_list[0][1]
    command = decode(pdata[1:])
    assert command.command_field == CommandField.C_STORE_RQ
    assert (command.message_id, command.priority, command.has_data_set) == (7, 1, True)
    assert (command.affected_sop_class_uid, command.affected_sop_instance_uid) == (
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.3",
    )


def test_unknown_elements_and_other_groups_are_skipped() -> None:
    command = CommandSet(CommandField.C_ECHO_RQ, message_id=1)
    strange = struct.pack("<HHI2s", 0, 0x5010, 2, b"xx") + struct.pack("<HHI2s", 8, 0x100, 2, b"\1\0")
    assert decode(strange + encode(command, has_data_set=False) + strange) == command


@pytest.mark.parametrize("missing", ["command_field", "message_id", "command_data_set_type"])
def test_what_no_answer_can_do_without_is_missed(missing: str) -> None:
    elements = {
        "command_field": struct.pack("<HHIH", 0, 0x100, 2, 0x30),
        "message_id": struct.pack("<HHIH", 0, 0x110, 2, 1),
        "command_data_set_type": struct.pack("<HHIH", 0, 0x800, 2, 0x101),
    }
    decode(b"".join(elements.values()))
    del elements[missing]
    with pytest.raises(CommandSetError):
        decode(b"".join(elements.values()))


def test_an_error_comment_is_cut_to_what_the_standard_allows() -> None:
    command = CommandSet(0x8030, message_id_being_responded_to=1, status=0xA700, error_comment="x" * 100)
    assert decode(encode(command, has_data_set=False)).error_comment == "x" * 64


def test_a_number_that_does_not_fit_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="status"):
        encode(CommandSet(0x8030, message_id_being_responded_to=1, status=0x10000), has_data_set=False)
