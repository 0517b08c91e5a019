"""How long a service cannot be reached: new associations at a steady pace, each with a C-ECHO."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from cluster.dicom import client, requestor
from cluster.dicom.faults import AssociationEnded, LocalProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.requestor import AssociationRejected, ProposedContext
from cluster.dicom.uids import VERIFICATION

if TYPE_CHECKING:
    from chaos.hosts.story import Note
    from cluster.coordination.registry import Address

_CONTEXTS: Final = (ProposedContext(VERIFICATION, ("1.2.840.10008.1.2",)),)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One association: connected, asked for, C-ECHO, released."""

    began_s: float
    """On the loop's clock."""
    ended_s: float
    fault: str | None
    """Why it failed; None if it did not."""


@dataclass(frozen=True, slots=True)
class Probed:
    """All attempts of a prober, in the order of their beginning."""

    attempts: tuple[Attempt, ...]

    @property
    def faults(self) -> list[str]:
        """Why attempts failed, one for each that did."""
        return self.faults_since(0.0)

    def faults_since(self, moment_s: float) -> list[str]:
        """Return why attempts failed that began after a moment."""
        return [one.fault for one in self.attempts if one.fault is not None and one.began_s >= moment_s]

    def longest_gap_s(self, since_s: float = 0.0, until_s: float = math.inf) -> float:
        """Return the longest time in which no attempt ended with success, among those begun in a time.

        It begins with the first attempt and ends with the last: a prober that never succeeded saw one gap.
        """
        attempts = [one for one in self.attempts if since_s <= one.began_s < until_s]
        if not attempts:
            return 0.0
        successes = sorted(one.ended_s for one in attempts if one.fault is None)
        begin = min(one.began_s for one in attempts)
        end = max(one.ended_s for one in attempts)
        moments = [begin, *successes, end]
        return max(later - earlier for earlier, later in pairwise(moments))

    def until_success_s(self, since_s: float) -> float | None:
        """Return how long after a moment an association had succeeded that began after it; None: none had."""
        ends = [one.ended_s for one in self.attempts if one.fault is None and one.began_s >= since_s]
        return min(ends) - since_s if ends else None


class Prober:
    """Probes until it is told to stop.

    Parameters
    ----------
    address : Address
    called_ae : str
    interval_s : float
        From the beginning of one attempt to that of the next.
    timeout_s : float
        How long one may take.
    at_once : int
        So many may be under way: past it an attempt is not begun.
    note : callable
        Takes the outcome of an attempt that is another than that of the one before.
    """

    def __init__(
        self,
        address: Address,
        *,
        called_ae: str = "ATRIA",
        interval_s: float = 0.05,
        timeout_s: float = 1.0,
        at_once: int = 32,
        note: Note = lambda _: None,
    ) -> None:
        self._address = address
        self._called_ae = called_ae
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._at_once = at_once
        self._note = note
        self._last = ""
        self._attempts: list[Attempt] = []
        self._limits = UpperLayerLimits(connect_timeout_s=timeout_s, artim_timeout_s=timeout_s)

    @property
    def probed(self) -> Probed:
        """What has come of it so far."""
        return Probed(tuple(sorted(self._attempts, key=lambda one: one.began_s)))

    async def run(self) -> None:
        """Probe until cancelled."""
        clock = asyncio.get_running_loop().time
        under_way: set[asyncio.Task[None]] = set()
        due_s = clock()
        try:
            while True:
                if len(under_way) < self._at_once:
                    task = asyncio.create_task(self._attempt())
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                due_s = max(due_s + self._interval_s, clock())
                await asyncio.sleep(due_s - clock())
        finally:
            # What was begun is told: an attempt that hangs is the very thing that is looked for.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*under_way)

    async def _attempt(self) -> None:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        fault = await probe(self._address, self._called_ae, self._limits, self._timeout_s)
        self._attempts.append(Attempt(began_s, clock(), fault))
        outcome = fault or "a new association succeeds"
        if outcome != self._last:
            self._note(outcome)
            self._last = outcome


async def probe(address: Address, called_ae: str, limits: UpperLayerLimits, timeout_s: float) -> str | None:
    """Make one association with a C-ECHO, and return why that failed; None if it did not."""
    try:
        async with asyncio.timeout(timeout_s):
            association = await requestor.connect(
                address.host,
                address.port,
                calling_ae="PROBER",
                called_ae=called_ae,
                contexts=_CONTEXTS,
                limits=limits,
            )
            async with association:
                status = await client.echo(association)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except (OSError, AssociationEnded, AssociationRejected, LocalProtocolError) as error:
        return f"{type(error).__name__}: {error}"
    return None if status == 0 else f"C-ECHO answered {status:04X}H"
