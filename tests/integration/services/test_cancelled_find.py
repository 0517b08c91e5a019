"""A C-CANCEL ends a query at once: between answers, and where a catalogue searches and finds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.dicom import client, uids
from cluster.dicom.acceptor import Acceptor
from cluster.dicom.association import Association
from cluster.dicom.command_set import CommandField, CommandSet
from cluster.dicom.faults import AssociationEnded
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.dicom.requestor import ProposedContext, connect
from cluster.nouns import Level
from cluster.settings import load
from cluster.settings.live import LiveSettings
from storage_node.catalogue.protocol import Match
from storage_node.services.find import FindService
from storage_node.services.status import Status
from tests.integration.services.instances import identifier
from tests.integration.services.node import EXPLICIT
from tests.unit.finding.test_answers import match

LIMITS = UpperLayerLimits()


@dataclass
class Searching:
    """A grid whose find yields some matches, then searches for ever."""

    matches: int
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    complete: bool = True

    def find(self, *_: object, **__: object) -> AsyncGenerator[Match]:
        return self._search()

    async def _search(self) -> AsyncGenerator[Match]:
        try:
            for _ in range(self.matches):
                yield match()
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncGenerator[Callable[[Searching], Awaitable[Association]]]:
    settings = load(None, data_folder=tmp_path)
    acceptors: list[Acceptor] = []

    async def serve(grid: Searching) -> Association:
        service = FindService(grid, LiveSettings(settings))  # type: ignore[arg-type]

        async def handle(association: Association) -> None:
            while True:
                await service(association, await association.receive())

        acceptor = Acceptor(AcceptancePolicy("ATRIA"), LIMITS, handle)
        acceptors.append(acceptor)
        host, port = await acceptor.listen("127.0.0.1", 0)
        contexts = [ProposedContext(uids.STUDY_ROOT_FIND, (EXPLICIT,))]
        return await connect(host, port, calling_ae="A", called_ae="ATRIA", contexts=contexts, limits=LIMITS)

    yield serve
    for acceptor in acceptors:
        await acceptor.drain(0)


def _request(association: Association) -> CommandSet:
    return CommandSet(
        CommandField.C_FIND_RQ,
        message_id=association.next_message_id(),
        affected_sop_class_uid=uids.STUDY_ROOT_FIND,
        priority=0,
    )


@pytest.mark.parametrize("matches", [0, 3])
async def test_a_cancel_ends_a_search_that_finds_nothing_more(
    serving: Callable[[Searching], Awaitable[Association]], matches: int
) -> None:
    grid = Searching(matches)
    async with await serving(grid) as association, asyncio.timeout(10):
        context = client.context_for(association, uids.STUDY_ROOT_FIND)
        request = _request(association)
        await association.send(context.context_id, request, [identifier(Level.STUDY, StudyInstanceUID="")])
        await grid.begun.wait()
        for other in (request.message_id or 0) + 1, request.message_id:
            assert not grid.ended.is_set()
            cancel = CommandSet(CommandField.C_CANCEL_RQ, message_id_being_responded_to=other)
            await association.send(context.context_id, cancel)
        statuses = [(await association.receive()).command.status for _ in range(matches + 1)]
        assert statuses == [Status.PENDING] * matches + [Status.CANCEL]
        assert grid.ended.is_set()


async def test_a_search_ends_when_its_asker_goes_away(
    serving: Callable[[Searching], Awaitable[Association]],
) -> None:
    grid = Searching(0)
    async with asyncio.timeout(10):
        association = await serving(grid)
        context = client.context_for(association, uids.STUDY_ROOT_FIND)
        data_set = [identifier(Level.STUDY, StudyInstanceUID="")]
        await association.send(context.context_id, _request(association), data_set)
        await grid.begun.wait()
        association.abort()
        await grid.ended.wait()
        with pytest.raises(AssociationEnded):
            await association.receive()
        await association.closed()


async def test_the_next_query_is_answered_after_a_cancelled_one(
    serving: Callable[[Searching], Awaitable[Association]],
) -> None:
    grid = Searching(2)
    async with await serving(grid) as association, asyncio.timeout(10):
        for _ in range(2):
            responses = client.find(
                association, uids.STUDY_ROOT_FIND, identifier(Level.STUDY, StudyInstanceUID="")
            )
            assert (await anext(responses))[0].status == Status.PENDING
            await responses.aclose()
