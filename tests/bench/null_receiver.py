"""Atria's upper layer, that receives and keeps nothing: `python -m tests.bench.null_receiver PORT [proxied]`.

One process, set up as a worker is. It reads each data set as a worker does, and lets go of it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from cluster import proxy_protocol
from cluster.dicom.acceptor import Acceptor
from cluster.dicom.association import Association
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.settings import Settings
from deploy.process import serve

_READ_BYTES: Final = 1024 * 1024
_SUCCESS: Final = 0x0000
_PROXIED: Final = "proxied"
"""Argument that says that connections begin with a PROXY protocol header, as a worker's do."""
_ASSOCIATIONS: Final = 10_000


async def _serve(association: Association) -> None:
    while True:
        message = await association.receive()
        if message.data_set is not None:
            while await message.data_set.read(_READ_BYTES):
                pass
        response = CommandSet(
            command_field=CommandField.C_STORE_RSP,
            message_id_being_responded_to=message.command.message_id,
            affected_sop_class_uid=message.command.affected_sop_class_uid,
            affected_sop_instance_uid=message.command.affected_sop_instance_uid,
            status=_SUCCESS,
        )
        await association.send(message.context.context_id, response)


async def _receive(stop: asyncio.Event, port: int) -> None:
    preface = proxy_protocol.parse if _PROXIED in sys.argv else None
    policy = AcceptancePolicy(ae_title="ATRIA", max_associations=_ASSOCIATIONS)
    acceptor = Acceptor(policy, UpperLayerLimits(), _serve, preface=preface)
    await acceptor.listen("127.0.0.1", port)
    await stop.wait()
    await acceptor.drain(0.0)


def main() -> None:
    """Listen on the loopback port that is the first argument, until asked to end."""
    port = int(sys.argv[1])
    serve(Settings(), "null-receiver", lambda stop: _receive(stop, port))


if __name__ == "__main__":
    main()
