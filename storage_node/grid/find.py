"""A find at several catalogues, merged as ordered streams (design, "Finding and reading").

R = N - W + 1 catalogues are asked, so that one of them knows whatever was acknowledged. Each answers in the
order of what identifies the entities; so does the merged answer, which holds one entity of each catalogue
at a time. Where all say the same, that is the answer. A catalogue that said nothing of an entity is asked
for it by its UID, and for the facts about it, which need no row. What two catalogues say otherwise of an
entity is counted again from the instances they know, each as the higher ruling has it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

import structlog
from prometheus_client import Counter

from cluster.nouns import Level, Provenance
from storage_node.catalogue import corrections
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import chosen, is_shown_to_some, precedence
from storage_node.grid import rows
from storage_node.grid.find_stream import Stream, StreamFailed
from storage_node.grid.find_union import (
    corrected_by,
    described_by,
    instance_of,
    is_by_uids,
    is_of,
    query_below,
    says,
    series_of,
    still_matches,
    total_of,
)

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance
    from storage_node.catalogue.matching import Query
    from storage_node.catalogue.protocol import Catalogue, Match

_RECOUNTED = Counter(
    "atria_find_recounted_total", "Patients, studies and series on which catalogues differed, counted anew"
)
_FAILED = Counter("atria_find_failed_catalogues_total", "Catalogues that failed during a find", ["site"])

ANSWER_TIMEOUT_S: Final = 10.0
"""How long a catalogue may take to its next answer."""
PATIENCE_S: Final = 1.0

log = structlog.get_logger()


class NoCatalogue(Exception):
    """No catalogue answers, or none goes on answering."""


class _AskAgain(Exception):
    """Catalogues failed while an entity was counted again, and were given up."""


class Finding:
    """The merged answers to one query, in the order of `Match.uid`: an asynchronous iterator.

    A catalogue that fails, or takes longer than `answer_timeout_s` to its next answers, is replaced by one
    that was not asked so far; the replacement goes on behind what was answered already.

    Parameters
    ----------
    catalogues : sequence of Catalogue
        Those worth asking, the nearest first; before all others those that vote.
    query : Query
    limit : int
        Answers at most; what is hidden is none.
    needed : int
        R: how many catalogues make the answer complete.
    voters : collection of str, optional
        Names of the catalogues that count towards that (design, rule 8); all do when it is not given.
    answer_timeout_s : float
    patience_s : float
        How long one is waited for when others have answered and there is one to ask in its place.
    hidden : bool
        Whether entities of which all instances are hidden are returned, too, with `Match.instances` 0.
    whole : bool
        Whether what was corrected of the study that a series or an instance is in is to be known, too.
    rejected : bool
        Whether instances that were rejected for quality reasons, and not deleted, are as if they were not.
        An entity above is counted so where all of it is hidden otherwise.

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
        voters: Collection[str] | None = None,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        hidden: bool = False,
        whole: bool = True,
        rejected: bool = False,
    ) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._spare = deque(catalogues)
        self._query = query
        self._limit = limit
        self._needed = needed
        self._voters = voters
        self._answer_timeout_s = answer_timeout_s
        self._patience_s = patience_s
        self._hidden = hidden
        self._is_whole = whole
        self._rejected = rejected
        self._of_study: tuple[str, corrections.Details] = ("", ())
        self._is_by_uids = is_by_uids(query)
        self._streams: list[Stream] = []
        self._last: tuple[str, ...] = ()
        self._answers = self._merge()

    @property
    def complete(self) -> bool:
        """Whether enough catalogues answer that nothing acknowledged is missing."""
        voting = [name for name in self.answered if self._voters is None or name in self._voters]
        return len(voting) >= self._needed

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
        left = self._limit
        try:
            while left > 0:
                await self._refill()
                heads = [(stream, stream.waiting[0]) for stream in self._streams if stream.waiting]
                if not heads:
                    return
                uid = min(match.uid for _, match in heads)
                same = [(stream, match) for stream, match in heads if match.uid == uid]
                try:
                    answer = await self._combine(uid, same)
                    if self._rejected and answer is not None and not answer.instances:
                        answer = await self._with_rejected(answer)
                except StreamFailed as failure:
                    self._failed(failure)
                    continue
                except _AskAgain:
                    continue
                for stream, _ in same:
                    stream.waiting.popleft()
                self._last = uid
                if answer is not None and (answer.instances or self._hidden):
                    left -= 1
                    yield answer
        finally:
            for stream in self._streams:
                await stream.close()

    async def _refill(self) -> None:
        """See that there are as many streams as it takes, each with its next match or at its end."""
        while True:
            while len(self.answered) < self._needed and self._spare:
                catalogue = self._spare.popleft()
                self._streams.append(Stream(catalogue, self._query, self._last, self._answer_timeout_s))
                self.answered.append(catalogue.name)
            empty = [stream for stream in self._streams if not stream.waiting and not stream.at_end]
            if not self.answered:
                raise NoCatalogue(f"no catalogue answers: {', '.join(self.failed) or 'none is up'}")
            if not empty:
                return
            for failure in await self._read(empty):
                self._failed(failure)

    async def _read(self, streams: Sequence[Stream]) -> list[StreamFailed]:
        """Read on in some streams; return why some failed, or were too slow while another could be asked."""
        reading = {asyncio.create_task(stream.read()): stream for stream in streams}
        try:
            done, slow = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
            if slow:
                may_be_replaced = self._spare and any(task.result() is None for task in done)
                _, slow = await asyncio.wait(slow, timeout=self._patience_s if may_be_replaced else None)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
        failures = [task.result() for task in reading if task not in slow]
        too_slow = [StreamFailed(reading[task], "slower than the others") for task in slow]
        return [*filter(None, failures), *too_slow]

    def _failed(self, failure: StreamFailed) -> None:
        _FAILED.labels(failure.stream.name).inc()
        log.warning("find.catalogue_failed", site=failure.stream.name, reason=failure.reason)
        self._give_up(failure.stream)

    def _give_up(self, stream: Stream) -> None:
        """Go on without a stream; what it said before it failed still counts."""
        stream.at_end = True
        self.answered.remove(stream.name)
        self.failed.append(stream.name)

    def _asked(self) -> list[Stream]:
        return [stream for stream in self._streams if stream.name in self.answered]

    async def _combine(self, uid: tuple[str, ...], same: Sequence[tuple[Stream, Match]]) -> Match | None:
        """Return one match for an entity; None where the query does not match what all know of it.

        Raises
        ------
        StreamFailed, _AskAgain
        """
        sayers = [stream for stream, _ in same]
        said = [match for _, match in same]
        asked = self._asked()
        silent = [stream for stream in asked if stream not in sayers]
        first, *others = said
        if not silent and all(other == first for other in others):
            return first
        known, facts = await self._known_to(silent, uid)
        said += known
        if self._query.level is Level.IMAGE:
            said += await self._choices(said, facts)
            answer = instance_of(said, facts)
        else:
            answer = min(said, key=lambda match: match.precedence)
            # One that is silent on a patient may have its studies under another Patient ID. What was said by
            # those that failed since cannot be counted again.
            moved = self._query.level is Level.PATIENT and silent and len(silent) < len(asked)
            if facts or moved or not all(says(match) == says(answer) for match in said):
                answer = await self._recount(answer)
        if silent or any(match.corrected != answer.corrected for match in said):
            answer = corrected_by(self._query.level, answer, await self._corrections(answer))
        return answer if still_matches(self._query, answer) else None

    async def _known_to(
        self, silent: Iterable[Stream], uid: tuple[str, ...]
    ) -> tuple[Sequence[Match], Sequence[Fact]]:
        """Return what catalogues that did not answer with an entity know of it; patients are recounted."""
        matches: list[Match] = []
        facts: list[Fact] = []
        if self._query.level is not Level.PATIENT:
            for stream in silent:
                match = None if self._is_by_uids else await stream.known(uid)
                if match is not None:
                    matches.append(match)
                else:
                    facts += await stream.facts(uid)
        return matches, facts

    async def _choices(self, said: Sequence[Match], facts: Sequence[Fact]) -> list[Match]:
        """Return all versions where no catalogue answered with the one that was chosen.

        Who has it may not know of the choice; or nobody has it, and another than a lower choice is current.

        Raises
        ------
        StreamFailed
        """
        choice = chosen((*(fact for match in said for fact in match.rulings), *facts))
        if choice is None or any(match.version.digest == choice for match in said):
            return []
        answers = [await stream.rows(said[0].version.instance) for stream in self._asked()]
        return [replace(said[0], **described_by(row)) for row in rows.merge(answers)]

    async def _corrections(self, match: Match) -> corrections.Details:
        """Return what was corrected of an entity, by all facts that the catalogues know.

        Raises
        ------
        StreamFailed, _AskAgain
        """
        instance = match.version.instance
        study, series = instance.study_instance_uid, instance.series_instance_uid
        if self._query.level is Level.STUDY:
            return (await self._correct(corrections.study(study, match.header))).details
        if self._is_whole and self._of_study[0] != study:
            found = await self._below(by_uids(study=[study], level=Level.STUDY))
            self._of_study = study, found[0].corrected if found else ()
        details = self._of_study[1]
        if self._query.level in (Level.SERIES, Level.IMAGE):
            details += (await self._correct(corrections.series(study, series, match.header))).details
        return tuple(sorted(details))

    async def _correct(self, correcting: corrections.Correcting) -> corrections.Corrected:
        async def holding_of(subject: Instance) -> Fact | None:
            known = [fact for stream in self._asked() for fact in await stream.facts_of(subject)]
            return corrections.holding(known)

        return await corrections.followed(correcting, holding_of)

    async def _with_rejected(self, match: Match) -> Match:
        """Return an entity of which all is hidden with what of it was rejected for quality reasons.

        Raises
        ------
        StreamFailed, _AskAgain
        """
        if self._query.level is not Level.IMAGE:
            return await self._recount(match)
        if not is_shown_to_some(match.rulings):
            return match
        return replace(match, instances=1, series=1, studies=1)

    async def _recount(self, match: Match) -> Match:
        """Count what is below an entity in the union of what the catalogues know."""
        _RECOUNTED.inc()
        level = self._query.level
        parts = await self._below(query_below(level, match.uid), whole=level is Level.PATIENT)
        if level is Level.SERIES:
            if any(part.rulings for part in parts):
                match = await self._standing(match, parts)
            return series_of(match, parts)
        if level is Level.PATIENT:
            parts = [part for part in parts if is_of(part, match.uid)]
        return total_of(match.uid, parts) if parts else replace(match, instances=0, series=0, studies=0)

    async def _standing(self, match: Match, parts: Sequence[Match]) -> Match:
        """Look for the version that stands for a series, where no catalogue may know all that is hidden.

        Raises
        ------
        StreamFailed
        """
        shown = {part.version.instance for part in parts if part.instances}
        instances = shown or {part.version.instance for part in parts}
        provenances: dict[tuple[Instance, str], Provenance] = {}
        for stream in self._asked():
            for entry in await stream.entries(match.uid[0]):
                if entry.instance in instances:
                    place = entry.instance, entry.digest
                    known = provenances.get(place, entry.provenance)
                    provenances[place] = Provenance.merge(known, entry.provenance)
        instance, digest = min(provenances, key=lambda place: precedence(provenances[place], place[1]))
        answers = [await stream.rows(instance) for stream in self._asked()]
        row = next(row for row in rows.merge(answers) if row.version.digest == digest)
        return replace(match, **described_by(row))

    async def _below(self, query: Query, *, whole: bool = True) -> list[Match]:
        """Return what all that are asked know of what is one level below an entity, hidden or not."""
        asked = self._asked()
        below = Finding(
            [stream.catalogue for stream in asked],
            query,
            sys.maxsize,
            needed=len(asked),
            answer_timeout_s=self._answer_timeout_s,
            hidden=True,
            whole=whole,
            rejected=self._rejected,
        )
        try:
            parts = [part async for part in below]
        except NoCatalogue:
            parts = []
        for stream in asked:
            if stream.name in below.failed:
                self._give_up(stream)
        if below.failed:
            raise _AskAgain
        return parts
