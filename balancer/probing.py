"""Looks after the workers: each is called now and again, and asked for a C-ECHO (PS3.4 annex A)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from balancer.sockets import connect
from balancer.worker import Worker
from balancer.workers import Workers
from cluster.coordination.registry import Address
from cluster.proxy_protocol import Command, Header, IPAddress, encode
from cluster.settings.live import LiveSettings

if TYPE_CHECKING:
    from cluster.dicom.association import Association

log = structlog.get_logger()

PROBES = Counter(
    "atria_balancer_probes_total", "Probes of workers, by what came of them", ["worker", "outcome"]
)

_SPREAD: Final = 0.1
"""By which part of it an interval is shorter or longer: probes of many workers do not fall together."""
_MAX_PDU_LENGTH_BYTES: Final = 16 * 1024
_PREFACE: Final = encode(Header(Command.LOCAL))


class ProbeFailed(Exception):
    """A worker does not answer as one that is well does."""


class Prober:
    """Probes workers for as long as they are known.

    Parameters
    ----------
    live : LiveSettings
        `probing` says how often, and `dicom.ae_title` is who calls whom.
    workers : Workers
    source_for : callable
        Says for a worker's address from which of ours to call.
    """

    def __init__(
        self,
        live: LiveSettings,
        workers: Workers,
        source_for: Callable[[IPAddress], IPAddress | None],
    ) -> None:
        self._live = live
        self._workers = workers
        self._source_for = source_for
        self._loop = asyncio.get_running_loop()
        self._random = Random()  # noqa: S311  nothing is kept secret by it
        self._attended: set[Worker] = set()

    def attend(self, tasks: asyncio.TaskGroup) -> None:
        """Look after those workers, too, that have come since; `tasks` owns what runs."""
        for worker in self._workers:
            if worker not in self._attended:
                self._attended.add(worker)
                tasks.create_task(self._look_after(worker), name=f"probes of {worker.name}")

    async def _look_after(self, worker: Worker) -> None:
        await asyncio.sleep(self._live.now.probing.interval_s * self._random.random())
        while worker in self._workers:
            if not worker.member.draining:
                await self._probe(worker)
            spread = self._random.uniform(1 - _SPREAD, 1 + _SPREAD)
            await asyncio.sleep(self._live.now.probing.interval_s * spread)
        self._attended.discard(worker)

    async def _probe(self, worker: Worker) -> None:
        settings = self._live.now
        begun_at = self._loop.time()
        error: str | None = None
        try:
            await probe(
                worker.dicom,
                ae_title=settings.dicom.ae_title,
                timeout_s=settings.probing.timeout_s,
                source_for=self._source_for,
            )
        except ProbeFailed as failure:
            error = str(failure)
        except Exception as fault:  # whatever an answer does to us, the front door and the other probes go on
            log.exception("probe.failed", worker=worker.name)
            error = repr(fault)
        if error is None:
            self._workers.probe_answered(worker, begun_at)
        else:
            self._workers.probe_missed(worker, settings.probing.failures, error)
        PROBES.labels(worker.name, "answered" if error is None else "missed").inc()
        worker.last_probe = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "took_s": round(self._loop.time() - begun_at, 4),
            "error": error,
        }


async def probe(
    address: Address,
    *,
    ae_title: str,
    timeout_s: float,
    source_for: Callable[[IPAddress], IPAddress | None] = lambda _: None,
) -> None:
    """Open an association with a worker, ask for a C-ECHO, and release it.

    A worker that rejects the association is there, and has said so: whether it takes a modality's, that one
    finds out.

    Raises
    ------
    ProbeFailed
        It is not there, does not answer within `timeout_s`, or answers a C-ECHO with anything but success.
    """
    from cluster.dicom.client import echo  # not needed to start, and 40 ms to import, with what is below
    from cluster.dicom.faults import AssociationEnded, LocalProtocolError
    from cluster.dicom.requestor import AssociationRejected

    try:
        async with asyncio.timeout(timeout_s), await _associate(address, ae_title, source_for) as association:
            status = await echo(association)
    except AssociationRejected:
        return
    except TimeoutError:
        raise ProbeFailed(f"no answer within {timeout_s:g} s") from None
    except (OSError, AssociationEnded, LocalProtocolError) as error:
        raise ProbeFailed(str(error)) from error
    if status:
        raise ProbeFailed(f"C-ECHO answered with status 0x{status:04X}")


async def _associate(
    address: Address, ae_title: str, source_for: Callable[[IPAddress], IPAddress | None]
) -> Association:
    from cluster.dicom import requestor
    from cluster.dicom.limits import UpperLayerLimits
    from cluster.dicom.transfer_syntaxes import IMPLICIT_VR_LE
    from cluster.dicom.uids import VERIFICATION

    connection = await connect(address, source_for)
    try:
        await asyncio.get_running_loop().sock_sendall(connection, _PREFACE)
        return await requestor.connect(
            address.host,
            address.port,
            calling_ae=ae_title,
            called_ae=ae_title,
            contexts=[requestor.ProposedContext(VERIFICATION, (IMPLICIT_VR_LE,))],
            limits=UpperLayerLimits(max_pdu_length_bytes=_MAX_PDU_LENGTH_BYTES),
            sock=connection,
            is_probe=True,
        )
    except BaseException:
        connection.close()
        raise
