"""C-STORE as SCU (PS3.4 B.2.1): files are sent until each is acknowledged, or has failed for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from deploy.client.files import plan
from deploy.client.statuses import is_stored, meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster.dicom.association import Association
    from deploy.client.files import Batch, DicomFile
    from deploy.client.peer import Peer

_OUT_OF_RESOURCES: Final = range(0xA700, 0xA800)
_REJECTED_PERMANENT: Final = 1
"""Result of an A-ASSOCIATE-RJ that would come again (PS3.8 9.3.4)."""
_NO_STATUS: Final = 0xC000
"""What an answer without a Status is taken for: nothing was stored."""
_FIRST_DELAY_S: Final = 0.25
_LAST_DELAY_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that was not stored."""

    file: DicomFile
    reason: str


@dataclass(slots=True)
class Sent:
    """What became of the files."""

    stored: list[DicomFile] = field(default_factory=list)
    warnings: list[Failure] = field(default_factory=list)
    """Stored, and something was odd about it."""
    failed: list[Failure] = field(default_factory=list)
    lost_associations: int = 0
    resent: int = 0
    """Files that were sent more than once: no acknowledgement came, or a refusal that passes."""


class _Interrupted(Exception):
    """An association ended early for a reason that may pass."""


class _Refused(Exception):
    """The peer wants nothing of this: trying again changes nothing."""


class Sender:
    """Sends files to one peer.

    Parameters
    ----------
    peer : Peer
    associations : int
        At once.
    attempts : int
        How often one file is sent, and how often in a row an association is tried, before it is given up.
    on_settled : callable
        Told of each file that was stored or has failed.
    """

    def __init__(
        self, peer: Peer, *, associations: int, attempts: int, on_settled: Callable[[DicomFile], None]
    ) -> None:
        self._peer = peer
        self._associations = associations
        self._attempts = attempts
        self._on_settled = on_settled
        self._sent = Sent()

    async def send(self, files: Sequence[DicomFile]) -> Sent:
        """Send files. What a file, or the peer, does wrong is in the result, and never raised."""
        batches = deque(plan(files, self._associations))

        async def run() -> None:
            while batches:
                await self._send_batch(batches.popleft())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._associations, len(batches))):
                group.create_task(run())
        return self._sent

    async def _send_batch(self, batch: Batch) -> None:
        waiting = deque(batch.files)
        tries: Counter[DicomFile] = Counter()
        fruitless = 0
        while waiting:
            before = len(waiting)
            try:
                await self._use_one_association(batch, waiting, tries)
            except _Refused as error:
                self._give_up(waiting, str(error))
            except _Interrupted as error:
                fruitless = 0 if len(waiting) < before else fruitless + 1
                if fruitless >= self._attempts:
                    self._give_up(waiting, _after(str(error), fruitless))
                else:
                    await asyncio.sleep(min(_FIRST_DELAY_S * 2**fruitless, _LAST_DELAY_S))

    def _give_up(self, waiting: deque[DicomFile], reason: str) -> None:
        while waiting:
            self._settle(waiting.popleft(), reason)

    def _settle(self, file: DicomFile, failure: str | None) -> None:
        if failure is None:
            self._sent.stored.append(file)
        else:
            self._sent.failed.append(Failure(file, failure))
        self._on_settled(file)

    async def _use_one_association(
        self, batch: Batch, waiting: deque[DicomFile], tries: Counter[DicomFile]
    ) -> None:
        from cluster.dicom.faults import AssociationEnded

        pause = None
        with contextlib.suppress(AssociationEnded):  # of the release: all that was sent has its answer
            async with await self._connect(batch) as association:
                pause = await self._send_waiting(association, waiting, tries)
        if pause is not None and waiting:
            raise _Interrupted(pause)

    async def _connect(self, batch: Batch) -> Association:
        from cluster.dicom.faults import AssociationEnded
        from cluster.dicom.requestor import AssociationRejected, ProposedContext

        contexts = [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in batch.contexts]
        try:
            return await self._peer.connect(contexts)
        except AssociationRejected as error:
            if error.result == _REJECTED_PERMANENT:
                raise _Refused(f"{self._peer}: {error}") from error
            raise _Interrupted(f"{self._peer}: {error}") from error
        except AssociationEnded as error:
            raise _Interrupted(f"{self._peer}: {error}") from error
        except OSError as error:
            raise _Interrupted(f"{self._peer} cannot be reached: {error.strerror or error}") from error

    async def _send_waiting(
        self, association: Association, waiting: deque[DicomFile], tries: Counter[DicomFile]
    ) -> str | None:
        """Send until nothing waits, or until the peer asks for a pause: then say why."""
        from cluster.dicom.faults import AssociationEnded

        accepted = {
            (context.abstract_syntax, context.transfer_syntax) for context in association.contexts.values()
        }
        while waiting:
            file = waiting[0]
            if file.context not in accepted:
                waiting.popleft()
                self._settle(file, f"the peer takes no {file.sop_class_uid} in {file.transfer_syntax_uid}")
                continue
            try:
                status, said = await self._store(association, file)
            except AssociationEnded as error:
                self._sent.lost_associations += 1
                self._postpone(waiting, tries, str(error))
                raise _Interrupted(str(error)) from error
            except OSError as error:
                waiting.popleft()
                self._settle(file, f"cannot be read: {error.strerror}")
                raise _Interrupted("a file could not be read to its end") from error
            if status in _OUT_OF_RESOURCES:
                self._postpone(waiting, tries, said)
                return said
            waiting.popleft()
            if is_stored(status) and status != 0:
                self._sent.warnings.append(Failure(file, said))
            self._settle(file, None if is_stored(status) else said)
        return None

    async def _store(self, association: Association, file: DicomFile) -> tuple[int, str]:
        from cluster.dicom import client

        response = await client.store(
            association,
            sop_class_uid=file.sop_class_uid,
            sop_instance_uid=file.sop_instance_uid,
            transfer_syntax_uid=file.transfer_syntax_uid,
            data_set=file.data_set(),
        )
        status = _NO_STATUS if response.status is None else response.status
        return status, meaning(status, response.error_comment)

    def _postpone(self, waiting: deque[DicomFile], tries: Counter[DicomFile], reason: str) -> None:
        """Put the file that was not acknowledged behind the others, unless it had its share of attempts."""
        file = waiting.popleft()
        tries[file] += 1
        if tries[file] < self._attempts:
            self._sent.resent += tries[file] == 1
            waiting.append(file)
        else:
            self._settle(file, _after(reason, self._attempts))


def _after(reason: str, attempts: int) -> str:
    return f"{reason} (tried {attempts} times)" if attempts > 1 else reason
