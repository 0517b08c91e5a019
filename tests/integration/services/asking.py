"""What a peer finds and gets, over an association of its own."""

from __future__ import annotations

from cluster.dicom import client, uids
from cluster.dicom.association import Message
from cluster.dicom.requestor import ProposedContext
from storage_node.services.status import Status
from tests.integration.services.instances import CT, identifier
from tests.integration.services.node import EXPLICIT, Node

_MODEL_FIND, _MODEL_GET = uids.STUDY_ROOT_FIND, uids.STUDY_ROOT_GET


async def found(node: Node, level: str, **keys: str) -> list[bytes]:
    """Return the Identifiers of the answers to a query."""
    async with await node.connect(ProposedContext(_MODEL_FIND, (EXPLICIT,))) as association:
        asked = client.find(association, _MODEL_FIND, identifier(level, **keys))
        return [answer async for _, answer in asked if answer is not None]


async def got(node: Node, **keys: str) -> list[bytes]:
    """Return the data sets of a study's instances of CT, as they are retrieved."""
    data_sets: list[bytes] = []

    async def take(message: Message) -> int:
        assert message.data_set is not None
        data_sets.append(b"".join(await message.data_set.read(1_000_000)))
        return Status.SUCCESS

    contexts = (
        ProposedContext(_MODEL_GET, (EXPLICIT,)),
        ProposedContext(CT, (EXPLICIT,), scu_role=False, scp_role=True),
    )
    async with await node.connect(*contexts) as association:
        async for _ in client.get(association, _MODEL_GET, identifier("STUDY", **keys), take):
            pass
    return data_sets
