"""pynetdicom's SCP, that receives and keeps nothing: `python -m tests.bench.pynetdicom_receiver PORT`."""

from __future__ import annotations

import socket
import sys
from typing import Final

from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType

from tests.bench.instances import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN

_SUCCESS: Final = 0x0000


def _connected(event: Event) -> None:
    connection = event.assoc.dul.socket
    assert connection is not None
    assert connection.socket is not None
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _stored(_: Event) -> int:
    return _SUCCESS


def main() -> None:
    """Listen on the loopback port that is the first argument, until killed."""
    ae = AE(ae_title="PYNETDICOM")
    ae.add_supported_context(CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN)
    handlers: list[EventHandlerType] = [(evt.EVT_CONN_OPEN, _connected), (evt.EVT_C_STORE, _stored)]
    ae.start_server(("127.0.0.1", int(sys.argv[1])), block=True, evt_handlers=handlers)


if __name__ == "__main__":
    main()
