"""An acceptor on loopback that answers everything with success, and raw peers that need not behave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from cluster.dicom import uids
from cluster.dicom.acceptor import Acceptor, IPAddress
from cluster.dicom.associate import AssociateRQ, ProposedItem, UserInformation
from cluster.dicom.association import Association, Message
from cluster.dicom.command_set import CommandSet
from cluster.dicom.faults import AssociationEnded
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.dicom.preface import Preface
from cluster.dicom.requestor import ProposedContext, connect

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LE = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LE = "1.2.840.10008.1.2"
LIMITS = UpperLayerLimits(artim_timeout_s=2.0, idle_timeout_s=10.0, message_timeout_s=10.0)
CONTEXTS = (
    ProposedContext(uids.VERIFICATION, (IMPLICIT_VR_LE,)),
    ProposedContext(CT, (EXPLICIT_VR_LE,), scu_role=True, scp_role=True),
    ProposedContext(uids.STUDY_ROOT_FIND, (IMPLICIT_VR_LE,)),
    ProposedContext(uids.STUDY_ROOT_MOVE, (IMPLICIT_VR_LE,)),
    ProposedContext(uids.STUDY_ROOT_GET, (IMPLICIT_VR_LE,)),
)
REQUEST = AssociateRQ(
    "ATRIA",
    "RAW",
    (ProposedItem(1, uids.VERIFICATION, (IMPLICIT_VR_LE,)), ProposedItem(3, CT, (EXPLICIT_VR_LE,))),
    UserInformation(16384, "1.2.3"),
)


def reply(message: Message, status: int = 0) -> CommandSet:
    command = message.command
    return CommandSet(
        command.command_field | 0x8000,
        message_id_being_responded_to=command.message_id,
        affected_sop_class_uid=command.affected_sop_class_uid,
        affected_sop_instance_uid=command.affected_sop_instance_uid,
        status=status,
    )


@dataclass
class Served:
    """What an acceptor has seen."""

    port: int = 0
    acceptor: Acceptor | None = None
    stored: list[bytes] = field(default_factory=list)
    endings: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    associations: list[Association] = field(default_factory=list)

    async def handle(self, association: Association) -> None:
        self.associations.append(association)
        try:
            while True:
                message = await association.receive()
                if message.data_set is not None:
                    self.stored.append(b"".join(await message.data_set.read(1 << 30)))
                await association.send(message.context.context_id, reply(message))
        except AssociationEnded as ended:
            self.endings.put_nowait(ended.how)


@asynccontextmanager
async def serving(
    handler: Callable[[Association], Awaitable[None]] | None = None,
    *,
    limits: UpperLayerLimits = LIMITS,
    policy: AcceptancePolicy | None = None,
    preface: Preface | None = None,
    admits: Callable[[IPAddress], bool] = lambda _: True,
) -> AsyncIterator[Served]:
    """Listen on a free port; at the end nothing is left open."""
    served = Served()
    acceptor = Acceptor(
        policy or AcceptancePolicy("ATRIA"),
        limits,
        handler or served.handle,
        preface=preface,
        admits=admits,
    )
    _, served.port = await acceptor.listen("127.0.0.1", 0)
    served.acceptor = acceptor
    try:
        yield served
    finally:
        await acceptor.drain(0.0)
        assert acceptor.associations == 0


async def connected(port: int, limits: UpperLayerLimits = LIMITS) -> Association:
    return await connect(
        "127.0.0.1", port, calling_ae="TEST", called_ae="ATRIA", contexts=CONTEXTS, limits=limits
    )


@asynccontextmanager
async def raw(
    port: int, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect without a protocol."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def raw_association(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Negotiate by hand."""
    async with raw(port) as (reader, writer):
        writer.write(REQUEST.encode())
        kind, _ = await read_pdu(reader)
        assert kind == 2
        yield reader, writer


async def read_pdu(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    header = await reader.readexactly(6)
    return header[0], await reader.readexactly(int.from_bytes(header[2:], "big"))


@asynccontextmanager
async def scripted(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Listen as a peer that follows a script, once for each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
