"""C-FIND as SCP (PS3.7 9.1.2, PS3.4 C.4.1)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from cluster.dicom.association import RequestCancelled
from cluster.dicom.elements import PackedHeaderError, pack
from storage_node.grid.find import NoCatalogue
from storage_node.services.above import Above
from storage_node.services.answers import Answers
from storage_node.services.identifier import MAY_BE_INCOMPLETE, read_find
from storage_node.services.reply import reply
from storage_node.services.status import Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.dicom.association import Association, Message
    from cluster.nouns import Level
    from cluster.settings.live import LiveSettings
    from storage_node.catalogue.protocol import Match
    from storage_node.grid.grid import Grid

_FINDS = Counter("atria_finds_total", "C-FIND requests by their final status", ["status"])
_INCOMPLETE = Counter("atria_incomplete_finds_total", "Finds that fewer catalogues answered than it takes")

_ROTTEN = Counter("atria_find_rotten_rows_total", "Matches whose header cannot be read any more")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FindService:
    """Answers C-FIND requests."""

    grid: Grid
    live: LiveSettings

    async def __call__(self, association: Association, message: Message) -> None:
        """Send a pending response for each match, then how it ended."""
        try:
            status, comment = await self._answer(association, message)
        except Refusal as refusal:
            status, comment = refusal.status, refusal.comment
            log.warning(
                "find.refused", association=association.id, status=f"{status:04X}", reason=refusal.comment
            )
        _FINDS.labels(status=f"{status:04X}").inc()
        await association.send(message.context.context_id, reply(message.command, status, comment))

    async def _answer(self, association: Association, message: Message) -> tuple[Status, str | None]:
        settings = self.live.now
        limits, peer = settings.limits, settings.peer(association.calling_ae)
        question = await read_find(message, limits, lenient_levels=bool(peer.lenient_levels))
        request = question.request
        answers = Answers(
            request,
            question.identifier,
            message.context.transfer_syntax,
            settings.dicom.ae_title,
            peer.character_set,
        )
        above = Above(self.grid, request, limits.find_matches)
        pending = Status.PENDING_WITHOUT_OPTIONAL_KEYS if request.unmatched else Status.PENDING
        finding = self.grid.find(request.query, limits.find_matches + 1, rejected=peer.show_rejected)
        told = 0
        try:
            async with aclosing(association.unless_cancelled(message.command.message_id, finding)) as matches:
                async for match in matches:
                    if told == limits.find_matches:
                        return Status.OUT_OF_RESOURCES, f"more than {told} matches: ask for less"
                    told += 1
                    await association.send(
                        message.context.context_id,
                        reply(message.command, pending),
                        [_identifier(answers, match, await above.of(match))],
                    )
        except RequestCancelled:
            return Status.CANCEL, None
        except NoCatalogue as error:
            raise Refusal(Status.OUT_OF_RESOURCES, "no catalogue answers: try again later") from error
        finally:
            await finding.aclose()
        if not finding.complete:
            _INCOMPLETE.inc()
            return Status.SUCCESS, MAY_BE_INCOMPLETE
        return Status.SUCCESS, None


def _identifier(answers: Answers, match: Match, above: Mapping[Level, Match]) -> bytes:
    """Return what is told of a match; of one whose row has rotted, what is known without its header."""
    try:
        return answers.identifier(match, above)
    except PackedHeaderError as error:
        _ROTTEN.inc()
        log.warning("find.rotten_row", digest=match.version.digest, reason=str(error))
        return answers.identifier(replace(match, header=pack({})), above)
