"""A find at several catalogues, merged as ordered streams (design, "Finding and reading").

R = N - W + 1 catalogues are asked, so that one of them knows whatever was acknowledged. Each answers in the
order of what identifies the entities; so does the merged answer, which holds one entity of each catalogue
at a time. What two catalogues say otherwise of an entity is counted again from the instances they know.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Final, Self

import structlog
from prometheus_client import Counter

from cluster.nouns import Level
from storage_node.catalogue.attributes import described
from storage_node.catalogue.matching import Query, by_uids
from storage_node.catalogue.protocol import CatalogueUnavailable, Match
from storage_node.catalogue.views import patient_key

if TYPE_CHECKING:
    from storage_node.catalogue.protocol import Catalogue

_RECOUNTED = Counter(
    "atria_find_recounted_total", "Patients, studies and series on which catalogues differed, counted anew"
)
_FAILED = Counter("atria_find_failed_catalogues_total", "Catalogues that failed during a find", ["site"])

ANSWER_TIMEOUT_S: Final = 10.0
"""How long a catalogue may take to its next answer."""

_READ_AHEAD: Final = 100

log = structlog.get_logger()


class NoCatalogue(Exception):
    """No catalogue answers, or none goes on answering."""


class Finding:
    """The merged answers to one query, in the order of `Match.uid`: an asynchronous iterator.

    A catalogue that fails, or takes longer than `answer_timeout_s` to its next answers, is replaced by one
    that was not asked so far; the replacement goes on behind what was answered already.

    Parameters
    ----------
    catalogues : sequence of Catalogue
        Those worth asking, the nearest first.
    query : Query
    limit : int
        Answers at most.
    needed : int
        R: how many catalogues make the answer complete.
    answer_timeout_s : float

    Attributes
    ----------
    answered : list of str
        Names of the catalogues that are being asked, or have answered to their end.
    failed : list of str
        Names of those that did not.
    """

    def __init__(
        self,
        catalogues: Sequence[Catalogue],
        query: Query,
        limit: int,
        *,
        needed: int,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._spare = deque(catalogues)
        self._query = query
        self._limit = limit
        self._needed = needed
        self._answer_timeout_s = answer_timeout_s
        self._streams: list[_Stream] = []
        self._last: tuple[str, ...] = ()
        self._answers = self._merge()

    @property
    def complete(self) -> bool:
        """Whether enough catalogues answer that nothing acknowledged is missing."""
        return len(self.answered) >= self._needed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Match:
        """Return the next match.

        Raises
        ------
        NoCatalogue
            None answers, or none goes on: what was returned so far may not be all.
        """
        return await anext(self._answers)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._answers.aclose()

    async def _merge(self) -> AsyncGenerator[Match]:
        try:
            for _ in range(self._limit):
                await self._refill()
                heads = [stream.waiting[0] for stream in self._streams if stream.waiting]
                if not heads:
                    return
                self._last = min(match.uid for match in heads)
                same = [
                    stream.waiting.popleft()
                    for stream in self._streams
                    if stream.waiting and stream.waiting[0].uid == self._last
                ]
                yield await self._combine(same)
        finally:
            for stream in self._streams:
                await stream.close()

    async def _refill(self) -> None:
        """See that there are as many streams as it takes, each with its next match or at its end."""
        while True:
            while len(self.answered) < self._needed and self._spare:
                catalogue = self._spare.popleft()
                # What the replacement knows of what is behind us does not count against its limit.
                limit = sys.maxsize if self._last else self._limit
                self._streams.append(_Stream(catalogue, self._query, limit, self._last))
                self.answered.append(catalogue.name)
            empty = [stream for stream in self._streams if not stream.waiting and not stream.at_end]
            if not self.answered:
                raise NoCatalogue(f"no catalogue answers: {', '.join(self.failed) or 'none is up'}")
            if not empty:
                return
            failed = await asyncio.gather(*(stream.read(self._answer_timeout_s) for stream in empty))
            for stream, reason in zip(empty, failed, strict=True):
                if reason is not None:
                    _FAILED.labels(stream.name).inc()
                    log.warning("find.catalogue_failed", site=stream.name, reason=reason)
                    self._give_up(stream)

    def _give_up(self, stream: _Stream) -> None:
        """Go on without a stream; what it said before it failed still counts."""
        stream.at_end = True
        self.answered.remove(stream.name)
        self.failed.append(stream.name)

    async def _combine(self, same: Sequence[Match]) -> Match:
        """Return one match for an entity that several catalogues know."""
        first, *others = same
        if all(other == first for other in others):
            return first
        if self._query.level is Level.IMAGE:
            return _current(same)
        stands = min(same, key=lambda match: match.precedence)
        if all(_below(other) == _below(first) for other in others):
            return stands
        _RECOUNTED.inc()
        sop_classes = {uid for match in same for uid in match.sop_classes}
        return replace(await self._recount(stands), sop_classes=tuple(sorted(sop_classes)))

    async def _recount(self, match: Match) -> Match:
        """Count what is below an entity in the union of what the catalogues know."""
        level = self._query.level
        asked = [stream.catalogue for stream in self._streams if stream.name in self.answered]
        below = Finding(
            asked,
            _query_below(level, match.uid),
            sys.maxsize,
            needed=len(asked),
            answer_timeout_s=self._answer_timeout_s,
        )
        parts = [part async for part in below if level is not Level.PATIENT or _is_of(part, match)]
        for name in below.failed:
            self._give_up(next(stream for stream in self._streams if stream.name == name))
        fingerprint = reduce(xor, (part.fingerprint for part in parts), 0)
        if level is Level.SERIES:
            return replace(match, instances=len(parts), fingerprint=fingerprint)
        return replace(
            match,
            instances=sum(part.instances for part in parts),
            series=sum(part.series for part in parts),
            studies=len(parts) if level is Level.PATIENT else 1,
            modalities=tuple(sorted({modality for part in parts for modality in part.modalities})),
            fingerprint=fingerprint,
        )


class _Stream:
    """One catalogue's answers, read some at a time."""

    def __init__(self, catalogue: Catalogue, query: Query, limit: int, after: tuple[str, ...]) -> None:
        self.catalogue = catalogue
        self.waiting: deque[Match] = deque()
        self.at_end = False
        self._answers = catalogue.find(query, limit)
        self._after = after

    @property
    def name(self) -> str:
        return self.catalogue.name

    async def read(self, timeout_s: float) -> str | None:
        """Read some answers, or the end; return why that failed, if it did."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s) as limit:
                async for match in self._answers:
                    if match.uid <= self._after:
                        limit.reschedule(loop.time() + timeout_s)
                        continue
                    self.waiting.append(match)
                    if len(self.waiting) == _READ_AHEAD:
                        return None
            self.at_end = True
        except CatalogueUnavailable as error:
            return error.reason
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        return None

    async def close(self) -> None:
        await self._answers.aclose()


def _current(same: Sequence[Match]) -> Match:
    """Return an instance's current version, of those that catalogues take for it."""
    versions: dict[str, Match] = {}
    for match in same:
        digest = match.version.digest
        known = versions.get(digest, match)
        versions[digest] = replace(
            match,
            order=max(match.order, known.order),
            precedence=min(match.precedence, known.precedence),
        )
    return max(versions.values(), key=lambda match: (match.order, match.precedence))


def _below(match: Match) -> tuple[object, ...]:
    """Return what a match says of what is below it: two that agree know the same instances."""
    return (
        match.fingerprint,
        match.instances,
        match.series,
        match.studies,
        match.modalities,
        match.sop_classes,
    )


def _query_below(level: Level, uid: tuple[str, ...]) -> Query:
    """Return a query for what is one level below an entity; a patient's may find others' studies, too."""
    match level:
        case Level.PATIENT:
            patient_id, _, study = uid[0].partition("\n")
            if not patient_id:
                return by_uids(study=(study,), level=Level.STUDY)
            return by_uids(patient_id=patient_id, level=Level.STUDY)
        case Level.STUDY:
            return by_uids(study=uid, level=Level.SERIES)
        case _:
            return by_uids(study=uid[:1], series=uid[1:], level=Level.IMAGE)


def _is_of(study: Match, patient: Match) -> bool:
    return patient.uid == (patient_key(study.uid[0], described(study.header)),)
