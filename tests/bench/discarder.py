"""The least that a receiver can do: it reads PDU after PDU into one buffer, answers, and looks at nothing.

It takes the sender's first PDU for an A-ASSOCIATE-RQ, and each last fragment of a data set for the end of a
CT image. What the sender reaches here is what it could reach anywhere.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

from tests.bench import instances, pdus


def serve(connection: socket.socket) -> None:
    """Answer one connection until its peer is gone, and close it."""
    buffer = bytearray(pdus.LARGEST_PDU_BYTES)
    view = memoryview(buffer)
    answer = pdus.store_rsp(instances.CT_IMAGE_STORAGE)
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv_into(buffer, 6, socket.MSG_WAITALL) == 6:
            pdu_type, length = struct.unpack_from(">BxI", buffer)
            connection.recv_into(view[:length], length, socket.MSG_WAITALL)
            if pdu_type == pdus.P_DATA_TF and buffer[5] == 2:
                connection.sendall(answer)
            elif pdu_type == pdus.A_ASSOCIATE_RQ:
                connection.sendall(pdus.associate_ac("ANY", "ANY"))
            elif pdu_type == pdus.A_RELEASE_RQ:
                connection.sendall(pdus.release(pdus.A_RELEASE_RP))


def main() -> None:
    """Listen on the loopback port that is the first argument, until killed."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
