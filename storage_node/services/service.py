"""Which service answers which request, and how long an association is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.dicom import uids
from storage_node.services.budget import Budget
from storage_node.services.choosing import Choosing
from storage_node.services.echo import echo
from storage_node.services.find import FindService
from storage_node.services.get import GetService
from storage_node.services.move import MoveService
from storage_node.services.read_ahead import Room
from storage_node.services.rejecting import Rejecting
from storage_node.services.reply import reply
from storage_node.services.status import Status
from storage_node.services.store import StoreService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cluster.dicom.association import Association, Message
    from cluster.settings.live import LiveSettings
    from storage_node.grid.grid import Grid

_REQUESTS = Counter("atria_requests_total", "DIMSE requests, by command", ["command"])

_STORE: Final = 0x0001
_GET: Final = 0x0010
_FIND: Final = 0x0020
_MOVE: Final = 0x0021
_ECHO: Final = 0x0030

_QUERY_RETRIEVE: Final[Mapping[str, int]] = {
    uids.PATIENT_ROOT_FIND: _FIND,
    uids.STUDY_ROOT_FIND: _FIND,
    uids.PATIENT_ROOT_MOVE: _MOVE,
    uids.STUDY_ROOT_MOVE: _MOVE,
    uids.PATIENT_ROOT_GET: _GET,
    uids.STUDY_ROOT_GET: _GET,
}

log = structlog.get_logger()


class Services:
    """The service classes that a worker is SCP of."""

    def __init__(self, live: LiveSettings, grid: Grid) -> None:
        room, budget = Room(), Budget(live.now.limits.held_bytes)
        store = StoreService(grid, live, budget, Choosing(grid, live, budget), Rejecting(grid, live, budget))
        self._answers: dict[int, tuple[str, Callable[[Association, Message], Awaitable[None]]]] = {
            _ECHO: ("C-ECHO", echo),
            _STORE: ("C-STORE", store),
            _FIND: ("C-FIND", FindService(grid, live)),
            _GET: ("C-GET", GetService(grid, live, room)),
            _MOVE: ("C-MOVE", MoveService(grid, live, room)),
        }

    async def serve(self, association: Association) -> None:
        """Answer one request after the other until the association ends.

        Raises
        ------
        AssociationEnded
            It ended: `how` tells whether as it should. A response to nothing that we asked aborts it.
        """
        while True:
            message = await association.receive()
            if not message.command.is_request:
                raise association.fail(
                    f"command {message.command.command_field:04X}H is no answer to what was asked"
                )
            await self._answer(association, message)

    async def _answer(self, association: Association, message: Message) -> None:
        wanted = message.command.command_field
        if wanted in self._answers and wanted == _request_for(message.context.abstract_syntax):
            name, answer = self._answers[wanted]
            _REQUESTS.labels(command=name).inc()
            await answer(association, message)
            return
        _REQUESTS.labels(command="unrecognized").inc()
        log.warning(
            "request.unrecognized",
            association=association.id,
            command=f"{wanted:04X}",
            abstract_syntax=message.context.abstract_syntax,
        )
        if message.data_set is not None:
            await message.data_set.discard()
        await association.send(
            message.context.context_id, reply(message.command, Status.UNRECOGNIZED_OPERATION)
        )


def _request_for(abstract_syntax: str) -> int:
    """Return the command field that a context of this abstract syntax carries; what is unknown is storage."""
    if abstract_syntax == uids.VERIFICATION:
        return _ECHO
    return _QUERY_RETRIEVE.get(abstract_syntax, _STORE)
