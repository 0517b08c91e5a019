"""C-GET as SCU (PS3.4 C.4.3): instances are asked for until each is in its file, or cannot be had."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from cluster.dicom import uids
from cluster.dicom.transfer_syntaxes import SERVICE_ORDER
from deploy.client.files import MAX_CONTEXTS
from deploy.client.find import encode
from deploy.client.statuses import meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from cluster.dicom.association import Association, Message
    from deploy.client.locate import Located
    from deploy.client.peer import Peer

_INSTANCES_A_REQUEST: Final = 200
_BLOCK_BYTES: Final = 1024 * 1024
_FIRST_DELAY_S: Final = 0.25
_LAST_DELAY_S: Final = 4.0

_SUCCESS: Final = 0x0000
_OUT_OF_RESOURCES: Final = 0xA700
_NOT_ASKED_FOR: Final = 0xA900


@dataclass(frozen=True, slots=True)
class Request:
    """One C-GET: instances of one series."""

    instances: tuple[Located, ...]

    @property
    def contexts(self) -> frozenset[tuple[str, str]]:
        """SOP classes and transfer syntaxes that must be accepted for all of it to come."""
        return frozenset(
            (instance.sop_class_uid, syntax)
            for instance in self.instances
            for syntax in instance.transfer_syntax_uids
        )


def plan(instances: Iterable[Located]) -> list[list[Request]]:
    """Divide instances into requests, and those among associations.

    Returns
    -------
    list of list of Request
        For each association its requests. None needs more than `MAX_CONTEXTS` presentation contexts,
        of which one is the query's own.
    """

    def series(instance: Located) -> tuple[str, str]:
        return instance.study_instance_uid, instance.series_instance_uid

    associations: list[list[Request]] = [[]]
    contexts: frozenset[tuple[str, str]] = frozenset()
    for _, members in itertools.groupby(sorted(instances, key=series), series):
        for request in _requests(list(members)):
            if len(contexts | request.contexts) > MAX_CONTEXTS - 1:
                associations.append([])
                contexts = frozenset()
            associations[-1].append(request)
            contexts |= request.contexts
    return [requests for requests in associations if requests]


def _requests(members: Sequence[Located]) -> list[Request]:
    requests: list[list[Located]] = [[]]
    for instance in members:
        wider = Request((*requests[-1], instance))
        if requests[-1] and (
            len(wider.instances) > _INSTANCES_A_REQUEST or len(wider.contexts) > MAX_CONTEXTS - 1
        ):
            requests.append([])
        requests[-1].append(instance)
    return [Request(tuple(request)) for request in requests]


def file_of(out: Path, instance: Located) -> Path:
    """Return where an instance is written: `<study>/<series>/<sop>.dcm`, whatever the UIDs hold."""
    study, series, sop = (
        _plain(uid)
        for uid in (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
    )
    return out / study / series / f"{sop}.dcm"


def _plain(uid: str) -> str:
    escaped = quote(uid, safe="")
    return escaped if escaped.strip(".") else escaped.replace(".", "%2E")


@dataclass(slots=True)
class Got:
    """What became of the instances."""

    files: dict[Located, Path] = field(default_factory=dict)
    failed: dict[Located, str] = field(default_factory=dict)
    lost_associations: int = 0


class Getter:
    """Retrieves instances from one peer into a folder.

    Parameters
    ----------
    peer : Peer
    out : Path
        The folder. Files in it are replaced, each in one step.
    attempts : int
        How often in a row asking may bring nothing before what is missing is given up.
    on_received : callable
        Told of each instance that is in its file.
    """

    def __init__(
        self, peer: Peer, out: Path, *, attempts: int, on_received: Callable[[Located], None]
    ) -> None:
        self._peer = peer
        self._out = out
        self._attempts = attempts
        self._on_received = on_received
        self._missing: dict[Located, None] = {}
        self._asked_for: dict[str, Located] = {}
        self._got = Got()
        self._reason = "it did not come"
        self._not_written: dict[Located, str] = {}

    async def get(self, instances: Sequence[Located]) -> Got:
        """Retrieve instances. What the peer does wrong is in the result, and never raised."""
        self._missing = dict.fromkeys(instances)
        fruitless = 0
        while self._missing and fruitless < self._attempts:
            before = len(self._missing)
            for requests in plan(self._missing):
                await self._use_one_association(requests)
            fruitless = 0 if len(self._missing) < before else fruitless + 1
            if self._missing and fruitless < self._attempts:
                await asyncio.sleep(min(_FIRST_DELAY_S * 2**fruitless, _LAST_DELAY_S))
        self._got.failed = {one: self._not_written.get(one, self._reason) for one in self._missing}
        return self._got

    async def _use_one_association(self, requests: Sequence[Request]) -> None:
        from cluster.dicom.faults import AssociationEnded
        from cluster.dicom.requestor import AssociationRejected, ProposedContext

        pairs = sorted(frozenset().union(*(request.contexts for request in requests)))
        contexts = [
            ProposedContext(uids.STUDY_ROOT_GET, SERVICE_ORDER),
            *(ProposedContext(uid, (syntax,), scu_role=False, scp_role=True) for uid, syntax in pairs),
        ]
        try:
            association = await self._peer.connect(contexts)
        except (AssociationRejected, AssociationEnded) as error:
            self._reason = f"{self._peer}: {error}"
            return
        except OSError as error:
            self._reason = f"{self._peer} cannot be reached: {error.strerror or error}"
            return
        try:
            async with association:
                if not association.contexts_for(uids.STUDY_ROOT_GET):
                    self._reason = f"{self._peer} takes no C-GET"
                    return
                for request in requests:
                    await self._ask(association, request)
        except AssociationEnded as error:
            self._got.lost_associations += 1
            self._reason = str(error)

    async def _ask(self, association: Association, request: Request) -> None:
        from pydicom import Dataset

        from cluster.dicom import client

        # UIDs are told apart within a series only: another study may hold the same.
        self._asked_for = {instance.sop_instance_uid: instance for instance in request.instances}
        first = request.instances[0]
        values = Dataset()
        values.QueryRetrieveLevel = "IMAGE"
        values.StudyInstanceUID = first.study_instance_uid
        values.SeriesInstanceUID = first.series_instance_uid
        values.SOPInstanceUID = list(self._asked_for)
        identifier = encode(values, association.contexts_for(uids.STUDY_ROOT_GET)[0].transfer_syntax)
        async for response in client.get(association, uids.STUDY_ROOT_GET, identifier, self._receive):
            if response.status not in (0xFF00, _SUCCESS):
                self._reason = f"the peer answered {meaning(response.status or 0, response.error_comment)}"

    async def _receive(self, message: Message) -> int:
        """Write one instance, and return the status for it."""
        assert message.data_set is not None
        instance = self._asked_for.get(message.command.affected_sop_instance_uid or "")
        if instance is None or instance not in self._missing:
            await message.data_set.discard()
            return _NOT_ASKED_FOR
        file = file_of(self._out, instance)
        try:
            await self._write(file, message, instance)
        except (OSError, ValueError) as error:
            self._not_written[instance] = f"{file} cannot be written: {error}"
            await message.data_set.discard()
            return _OUT_OF_RESOURCES
        del self._missing[instance]
        self._got.files[instance] = file
        self._on_received(instance)
        return _SUCCESS

    async def _write(self, file: Path, message: Message, instance: Located) -> None:
        from cluster.dicom.part10 import file_meta

        assert message.data_set is not None
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with beside.open("wb") as out:
                out.write(
                    file_meta(
                        instance.sop_class_uid, instance.sop_instance_uid, message.context.transfer_syntax
                    )
                )
                while buffers := await message.data_set.read(_BLOCK_BYTES):
                    out.writelines(buffers)
            beside.replace(file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
