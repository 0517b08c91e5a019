"""The few PDUs (PS3.8 9.3) and messages (PS3.7 9.3.1) that a sender of instances needs, encoded by hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from tests.bench.instances import EXPLICIT_VR_LITTLE_ENDIAN, DataSet, Uids, pixels

A_ASSOCIATE_RQ: Final = 0x01
A_ASSOCIATE_AC: Final = 0x02
A_ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
A_RELEASE_RQ: Final = 0x05
A_RELEASE_RP: Final = 0x06

CONTEXT_ID: Final = 1
LARGEST_PDU_BYTES: Final = 1024 * 1024
"""What is announced, and what is sent to a peer that names no limit."""
PDV_HEAD_BYTES: Final = 6

_APPLICATION_CONTEXT: Final = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION_CLASS_UID: Final = b"2.25.190000000000000000000000000000000001"
COMMAND: Final = 1
LAST: Final = 2
"""Bits of a message control header (PS3.8 E.2)."""
_DATA_SET_PRESENT: Final = 1


class PeerFault(Exception):
    """The peer did not do what a sender of instances needs."""


def associate_rq(called_ae: str, calling_ae: str, abstract_syntax: str) -> bytes:
    """Encode an A-ASSOCIATE-RQ with one presentation context, in Explicit VR Little Endian (PS3.8 9.3.2)."""
    context = struct.pack(">B3x", CONTEXT_ID) + item(0x30, abstract_syntax.encode("ascii"))
    context += item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode("ascii"))
    return associate(A_ASSOCIATE_RQ, called_ae, calling_ae, item(0x20, context))


def associate_ac(called_ae: str, calling_ae: str) -> bytes:
    """Encode an A-ASSOCIATE-AC that accepts that one presentation context (PS3.8 9.3.3)."""
    context = struct.pack(">BxBx", CONTEXT_ID, 0) + item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode("ascii"))
    return associate(A_ASSOCIATE_AC, called_ae, calling_ae, item(0x21, context))


def release(pdu_type: int) -> bytes:
    """Encode an A-RELEASE-RQ or -RP (PS3.8 9.3.6 and 9.3.7)."""
    return _pdu(pdu_type, bytes(4))


def peer_max_pdu_length(associate_ac_body: bytes) -> int:
    """Read from an A-ASSOCIATE-AC's variable field how long a P-DATA-TF the peer takes; 0 is no limit.

    Raises
    ------
    PeerFault
        The presentation context was not accepted.
    """
    longest = 0
    for item_type, value in _items(associate_ac_body[68:]):
        if item_type == 0x21 and value[2] != 0:
            raise PeerFault(f"the peer refused the presentation context: result {value[2]}")
        if item_type == 0x50:
            longest = next((struct.unpack(">I", sub)[0] for kind, sub in _items(value) if kind == 0x51), 0)
    return longest


class CtMessages:
    """C-STORE-RQs of one CT image, encoded once: only the UIDs are written anew for each.

    Message ID is 1 in all of them: an association has one operation outstanding (PS3.7 7.5.1).
    """

    def __init__(self, data_set: DataSet, max_pdu_bytes: int) -> None:
        whole = data_set.header + pixels(data_set.pixel_bytes)
        command = p_data(_store_rq(data_set), COMMAND | LAST)
        self._message = bytearray(command + b"".join(_fragments(whole, max_pdu_bytes)))
        self._places = [
            (name, place)
            for name in ("study", "series", "instance")
            for place in _places(self._message, getattr(data_set.uids, name))
        ]
        if len(self._places) != 5:
            raise ValueError(f"a UID straddles two PDUs of {max_pdu_bytes} bytes")

    def of(self, uids: Uids) -> tuple[bytearray]:
        """Return the message of one instance, in one piece: valid until the next is asked for."""
        for name, place in self._places:
            uid = getattr(uids, name)
            self._message[place : place + len(uid)] = uid
        return (self._message,)


def multi_frame_message(data_set: DataSet, max_pdu_bytes: int) -> Iterator[bytes]:
    """Give the C-STORE-RQ of a large instance, PDU by PDU; its pixels are one PDU, over and over."""
    yield p_data(_store_rq(data_set), COMMAND | LAST)
    yield p_data(data_set.header, 0)
    full_bytes = max_pdu_bytes - PDV_HEAD_BYTES
    full = p_data(pixels(full_bytes), 0)
    count, rest = divmod(data_set.pixel_bytes, full_bytes)
    for _ in range(count):
        yield full
    yield p_data(pixels(rest), LAST)


def small_message(data_set: DataSet) -> bytes:
    """Return the C-STORE-RQ of an instance that fits into one P-DATA-TF of any length (PS3.8 D.1)."""
    command = p_data(_store_rq(data_set), COMMAND | LAST)
    return command + p_data(data_set.header + pixels(data_set.pixel_bytes), LAST)


def store_rsp(sop_class_uid: str, message_id: int = 1, context_id: int = CONTEXT_ID) -> bytes:
    """Encode a C-STORE-RSP of success (PS3.7 9.3.1.2)."""
    return p_data(
        command_set(
            (0x0002, uid_value(sop_class_uid)),
            (0x0100, struct.pack("<H", 0x8001)),
            (0x0120, struct.pack("<H", message_id)),
            (0x0800, struct.pack("<H", 0x0101)),
            (0x0900, struct.pack("<H", 0x0000)),
        ),
        COMMAND | LAST,
        context_id,
    )


def status_of(p_data_body: bytes) -> int:
    """Read Status (0000,0900) of a response that is one PDV in one P-DATA-TF, as every small one is.

    Raises
    ------
    PeerFault
        It is no response.
    """
    value = values(p_data_body[PDV_HEAD_BYTES:]).get(0x0900)
    if value is None:
        raise PeerFault("the peer sent a message without a status")
    return number(value)


def values(encoded: bytes) -> dict[int, bytes]:
    """Return the values of a command set by element number: all are of group 0000 (PS3.7 6.3.1)."""
    found: dict[int, bytes] = {}
    place = 0
    while place + 8 <= len(encoded):
        _, element, length = struct.unpack_from("<HHI", encoded, place)
        found[element] = encoded[place + 8 : place + 8 + length]
        place += 8 + length
    return found


def number(value: bytes) -> int:
    """Read a value of VR US."""
    return int.from_bytes(value, "little")


def p_data(fragment: bytes, control: int, context_id: int = CONTEXT_ID) -> bytes:
    """Encode a P-DATA-TF with one PDV (PS3.8 9.3.5 and E.2)."""
    return _pdu(P_DATA_TF, struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Read one PDU: its type and its variable field.

    Raises
    ------
    PeerFault
        The peer closed the connection.
    """
    pdu_type, length = struct.unpack(">BxI", read_exactly(connection, 6))
    return pdu_type, read_exactly(connection, length)


def read_exactly(connection: socket.socket, length: int) -> bytes:
    """Read so many bytes.

    Raises
    ------
    PeerFault
        The peer closed the connection.
    """
    got = b""
    while len(got) < length:
        more = connection.recv(length - len(got))
        if not more:
            raise PeerFault("the peer closed the connection")
        got += more
    return got


def command_set(*elements: tuple[int, bytes]) -> bytes:
    """Encode a command set: Implicit VR Little Endian, its length in front (PS3.7 6.3.1)."""
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def uid_value(uid: str) -> bytes:
    """Encode a UID, padded to an even length (PS3.5 9.1)."""
    encoded = uid.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)


def associate(pdu_type: int, called_ae: str, calling_ae: str, contexts: bytes, roles: bytes = b"") -> bytes:
    """Encode an A-ASSOCIATE-RQ or -AC of these presentation contexts and role selections."""
    titles = called_ae.encode("ascii").ljust(16) + calling_ae.encode("ascii").ljust(16)
    user = item(0x51, struct.pack(">I", LARGEST_PDU_BYTES)) + item(0x52, _IMPLEMENTATION_CLASS_UID) + roles
    items = item(0x10, _APPLICATION_CONTEXT) + contexts + item(0x50, user)
    return _pdu(pdu_type, struct.pack(">H2x", 1) + titles + bytes(32) + items)


def item(item_type: int, value: bytes) -> bytes:
    """Encode an item or a sub-item of such a PDU."""
    return struct.pack(">BxH", item_type, len(value)) + value


def _fragments(data_set: bytes, max_pdu_bytes: int) -> Iterator[bytes]:
    step = max_pdu_bytes - PDV_HEAD_BYTES
    for start in range(0, len(data_set), step):
        last = start + step >= len(data_set)
        yield p_data(data_set[start : start + step], LAST if last else 0)


def _store_rq(data_set: DataSet) -> bytes:
    return command_set(
        (0x0002, uid_value(data_set.sop_class_uid)),
        (0x0100, struct.pack("<H", 0x0001)),
        (0x0110, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0x0000)),
        (0x0800, struct.pack("<H", _DATA_SET_PRESENT)),
        (0x1000, uid_value(data_set.uids.instance.decode("ascii"))),
    )


def _places(message: bytearray, uid: bytes) -> Iterator[int]:
    place = message.find(uid)
    while place >= 0:
        yield place
        place = message.find(uid, place + 1)


def _pdu(pdu_type: int, variable_field: bytes) -> bytes:
    return struct.pack(">BxI", pdu_type, len(variable_field)) + variable_field


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 4 <= len(encoded):
        item_type, length = struct.unpack_from(">BxH", encoded, place)
        yield item_type, encoded[place + 4 : place + 4 + length]
        place += 4 + length
