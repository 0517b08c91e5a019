"""Retrieves a study by C-GET, and looks at nothing: one blocking socket, one association (PS3.4 C.4.3).

Each C-STORE request is answered with success once its data set has come to its last fragment; no byte of it
is kept. The clock runs from the C-GET request to its final response. `python -m tests.bench.getter HOST PORT
STUDY_INSTANCE_UID` prints one line of JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from dataclasses import asdict
from typing import Final

from tests.bench import pdus
from tests.bench.instances import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN
from tests.bench.sender import CONNECT_TIMEOUT_S, Result, set_up

_STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_GET_CONTEXT: Final = 1
_STORE_CONTEXT: Final = 3

_C_STORE_RQ: Final = 0x0001
_C_GET_RQ: Final = 0x0010
_C_GET_RSP: Final = 0x8010
_PENDING: Final = 0xFF00
_DATA_SET_PRESENT: Final = 1


def get(host: str, port: int, study_instance_uid: str) -> Result:
    """Retrieve a study; a peer's fault is in the result, never raised."""
    try:
        with socket.create_connection((host, port), CONNECT_TIMEOUT_S) as connection:
            _associate(connection)
            began = time.perf_counter()
            connection.sendall(_get_rq(study_instance_uid))
            instances = _Retrieval(connection).run()
            seconds = time.perf_counter() - began
            connection.sendall(pdus.release(pdus.A_RELEASE_RQ))
            pdus.read_pdu(connection)
            return Result(instances, seconds, None)
    except (OSError, ValueError, struct.error, pdus.PeerFault) as error:
        return Result(0, 0.0, f"{type(error).__name__}: {error}")


def _associate(connection: socket.socket) -> None:
    set_up(connection)
    connection.sendall(_associate_rq())
    pdu_type, body = pdus.read_pdu(connection)
    if pdu_type != pdus.A_ASSOCIATE_AC:
        raise pdus.PeerFault(f"no association: the peer answered with a PDU of type {pdu_type:#04x}")
    pdus.peer_max_pdu_length(body)  # raises when a presentation context was refused


class _Retrieval:
    """What comes after a C-GET request: PDU after PDU, read into one buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(pdus.LARGEST_PDU_BYTES))
        self._command = b""
        self._message_id = 0
        self._instances = 0

    def run(self) -> int:
        """Take what comes until the final response; return how many instances came.

        Raises
        ------
        PeerFault
            The retrieval failed, or the peer did something else.
        """
        while True:
            pdu_type, length = struct.unpack(">BxI", pdus.read_exactly(self._connection, 6))
            if pdu_type != pdus.P_DATA_TF or length > len(self._buffer):
                raise pdus.PeerFault(f"a PDU of type {pdu_type:#04x} with {length} bytes")
            body = self._buffer[:length]
            self._fill(body)
            while body:
                pdv_length, _, control = struct.unpack_from(">IBB", body)
                if self._take(control, body[pdus.PDV_HEAD_BYTES : 4 + pdv_length]):
                    return self._instances
                body = body[4 + pdv_length :]

    def _fill(self, body: memoryview) -> None:
        while body:
            count = self._connection.recv_into(body)
            if not count:
                raise pdus.PeerFault("the peer closed the connection")
            body = body[count:]

    def _take(self, control: int, fragment: memoryview) -> bool:
        """Take a fragment; return whether it was the end of the final response."""
        if not control & pdus.COMMAND:
            if control & pdus.LAST:
                self._instances += 1
                answer = pdus.store_rsp(CT_IMAGE_STORAGE, self._message_id, _STORE_CONTEXT)
                self._connection.sendall(answer)
            return False
        self._command += fragment
        if not control & pdus.LAST:
            return False
        values, self._command = pdus.values(self._command), b""
        kind = pdus.number(values[0x0100])
        if kind == _C_STORE_RQ:
            self._message_id = pdus.number(values[0x0110])
            return False
        status = pdus.number(values[0x0900])
        if kind != _C_GET_RSP or status not in {0, _PENDING}:
            raise pdus.PeerFault(f"the peer answered with command {kind:#06x}, status {status:#06x}")
        return status == 0


def _associate_rq() -> bytes:
    """Encode an A-ASSOCIATE-RQ in which we are SCP of CT Image Storage (PS3.7 D.3.3.4)."""
    contexts = b"".join(
        pdus.item(
            0x20,
            struct.pack(">B3x", context_id)
            + pdus.item(0x30, abstract_syntax.encode("ascii"))
            + pdus.item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode("ascii")),
        )
        for context_id, abstract_syntax in (
            (_GET_CONTEXT, _STUDY_ROOT_GET),
            (_STORE_CONTEXT, CT_IMAGE_STORAGE),
        )
    )
    uid = CT_IMAGE_STORAGE.encode("ascii")
    role = pdus.item(0x54, struct.pack(">H", len(uid)) + uid + struct.pack(">BB", 0, 1))
    return pdus.associate(pdus.A_ASSOCIATE_RQ, "ATRIA", "BENCH", contexts, role)


def _get_rq(study_instance_uid: str) -> bytes:
    """Encode a C-GET-RQ (PS3.7 9.3.3.1) and its Identifier."""
    command = pdus.command_set(
        (0x0002, pdus.uid_value(_STUDY_ROOT_GET)),
        (0x0100, struct.pack("<H", _C_GET_RQ)),
        (0x0110, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0x0000)),
        (0x0800, struct.pack("<H", _DATA_SET_PRESENT)),
    )
    identifier = _element(0x0008, 0x0052, b"CS", b"STUDY ")
    identifier += _element(0x0020, 0x000D, b"UI", pdus.uid_value(study_instance_uid))
    return pdus.p_data(command, pdus.COMMAND | pdus.LAST, _GET_CONTEXT) + pdus.p_data(
        identifier, pdus.LAST, _GET_CONTEXT
    )


def _element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def main() -> None:
    """Retrieve what the command line says; print the result."""
    host, port, study_instance_uid = sys.argv[1:]
    print(json.dumps(asdict(get(host, int(port), study_instance_uid))))


if __name__ == "__main__":
    main()
