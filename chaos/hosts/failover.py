"""What happens to the front door when the balancer that leads goes, in one way or another, under load."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from chaos.hosts.arp_watch import Tenure, both_held_s, tenures
from chaos.hosts.cluster import ATRIA, NotReady, ready
from chaos.hosts.prober import Prober
from chaos.hosts.sender import Sent, send_throughout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from chaos.hosts.cluster import Running

_BALANCER: Final = "balancer"
_STEADY: Final = 20
"""So many probes must have succeeded before."""
_RECOVERY_TIMEOUT_S: Final = 30.0
_SILENCE_S: Final = 0.25
"""Who has not answered ARP for so long holds the address no more."""
_SENDERS: Final = 3
_GRACE_S: Final = 5.0
"""How much longer than asked for an association may take: what hangs is given up then."""


class Fault(enum.Enum):
    """How the balancer that leads goes."""

    KILLED = "its process is killed"
    STOPPED = "its process is stopped, and goes on when another leads"
    CUT_OFF = "its host reaches nobody, and does not see that"
    UNPLUGGED = "its host's cable is out"
    OFF = "its host is switched off"
    OFF_WITH_ETCD_LEADER = "its host is switched off, and with it the one whose etcd leads"
    HANDED_OVER = "it is told to hand over"


@dataclass(slots=True)
class Observed:
    """What callers and watchers saw in a time; there when it is over."""

    longest_gap_s: float = 0.0
    """The longest time without an association that succeeded."""
    faults: tuple[str, ...] = ()
    """Why associations failed."""
    tenures: tuple[Tenure, ...] = ()
    """Who held the service address, by ARP."""

    @property
    def both_held_s(self) -> float:
        """For how long two held the address; less than 0: there was as much between them."""
        return both_held_s(self.tenures)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of one fault."""

    fault: Fault
    outage_s: float
    """The longest time without an association that succeeded, of those begun from the fault on: to switch a
    host off takes a moment, in which some still succeed."""
    longest_gap_s: float
    """The longest time without an association that succeeded, from before the fault on."""
    tenures: tuple[Tenure, ...]
    """Who held the service address meanwhile, by ARP; moments are counted from the fault."""
    sent: tuple[Sent, ...]
    """What came of the associations that sent throughout; of those that hung, nothing."""
    refused: tuple[str, ...]
    """Why probes failed that began after the fault."""

    @property
    def both_held_s(self) -> float:
        """For how long two held the address; less than 0: there was as much between them."""
        return both_held_s(self.tenures)


@dataclass(frozen=True, slots=True)
class HandOvers:
    """What was seen of hand-overs, one after the other."""

    gaps_s: tuple[float, ...]
    """For each, from a moment before to the next: the longest time without an association that succeeded."""
    both_held_s: float
    """For how long two held the service address at most; less than 0: there was as much between them."""
    sent: tuple[Sent, ...]
    """What came of the associations that spanned all of them; of those that hung, nothing."""
    refused: tuple[str, ...]
    """Why probes failed."""


async def drill(
    cluster: Running, fault: Fault, *, sending_s: float = 10.0, watching_s: float = 4.0
) -> Outcome:
    """Have the leader go under load, watch what happens, and bring everything back.

    Parameters
    ----------
    cluster : Running
        Well before, and after.
    fault : Fault
    sending_s : float
        How long associations send throughout.
    watching_s : float
        How long is watched after the front door works again.

    Raises
    ------
    NotReady
        It does not work again, or all is not well after what has gone is back.
    """
    leader = await _leader(cluster)
    await _expect_store(cluster)
    prober, watch = Prober(cluster.service), cluster.watch()
    async with _running(cluster.client.run(prober.run())), _running(watch.run()):
        sending = [asyncio.create_task(_send(cluster, sending_s)) for _ in range(_SENDERS)]
        began_s = time.monotonic()
        await cluster.until(lambda: _is(_successes(prober, began_s) >= _STEADY), "probes that succeed")
        moment_s = time.monotonic()
        away = await _inflict(cluster, fault, leader)
        inflicted_s = time.monotonic()
        await cluster.until(
            lambda: _is(prober.probed.until_success_s(inflicted_s) is not None),
            "a new association",
            _RECOVERY_TIMEOUT_S,
        )
        await _undo(cluster, fault, leader, away)
        await asyncio.sleep(watching_s)
        sent = await asyncio.gather(*sending)
    await cluster.until(lambda: ready(cluster), "all back")
    held = tenures(watch.seen, silence_s=_SILENCE_S)
    return Outcome(
        fault,
        prober.probed.longest_gap_s(moment_s),
        prober.probed.longest_gap_s(began_s),
        tuple(Tenure(one.mac, one.begin_s - moment_s, one.end_s - moment_s) for one in held),
        tuple(one for one in sent if one is not None),
        tuple(
            one.fault for one in prober.probed.attempts if one.fault is not None and one.began_s >= moment_s
        ),
    )


async def hand_overs(cluster: Running, times: int, *, sending_s: float) -> HandOvers:
    """Have one balancer after the other hand over, while the same associations send throughout.

    Parameters
    ----------
    cluster : Running
    times : int
    sending_s : float
        How long they send.

    Raises
    ------
    NotReady
        A hand-over is refused, or not over before the next is due.
    """
    await _leader(cluster)
    await _expect_store(cluster)
    prober, watch = Prober(cluster.service), cluster.watch()
    async with _running(cluster.client.run(prober.run())), _running(watch.run()):
        sending = [asyncio.create_task(_send(cluster, sending_s)) for _ in range(_SENDERS)]
        began_s = time.monotonic()
        await cluster.until(lambda: _is(_successes(prober, began_s) >= _STEADY), "probes that succeed")
        moments_s = [time.monotonic() + turn * (sending_s - _GRACE_S) / times for turn in range(times + 1)]
        for moment_s in moments_s[:-1]:
            await asyncio.sleep(max(0.0, moment_s - time.monotonic()))
            await _hand_over(cluster, await _leader(cluster))
        sent = await asyncio.gather(*sending)
    probed = prober.probed
    return HandOvers(
        tuple(probed.longest_gap_s(begin, end) for begin, end in pairwise(moments_s)),
        both_held_s(tenures(watch.seen, silence_s=_SILENCE_S)),
        tuple(one for one in sent if one is not None),
        tuple(probed.faults),
    )


@asynccontextmanager
async def observed(cluster: Running) -> AsyncIterator[Observed]:
    """Call the service, and ask who holds its address, for as long as the context lasts."""
    seen = Observed()
    prober, watch = Prober(cluster.service), cluster.watch()
    async with _running(cluster.client.run(prober.run())), _running(watch.run()):
        yield seen
    seen.longest_gap_s = prober.probed.longest_gap_s()
    seen.faults = tuple(prober.probed.faults)
    seen.tenures = tuple(tenures(watch.seen, silence_s=_SILENCE_S))


async def _inflict(cluster: Running, fault: Fault, leader: str) -> list[str]:
    """Do it, and return the hosts that are off then."""
    host = cluster.hosts[leader]
    match fault:
        case Fault.KILLED:
            host[_BALANCER].send(signal.SIGKILL)
        case Fault.STOPPED:
            host[_BALANCER].send(signal.SIGSTOP)
        case Fault.CUT_OFF:
            cluster.network.cut_off(leader)
        case Fault.UNPLUGGED:
            cluster.network.unplug(leader)
        case Fault.HANDED_OVER:
            await _hand_over(cluster, leader)
        case Fault.OFF | Fault.OFF_WITH_ETCD_LEADER:
            away = [leader]
            if fault is Fault.OFF_WITH_ETCD_LEADER:
                away.append(await _etcd_leader(cluster))
            await asyncio.gather(*(cluster.hosts[name].power_off() for name in away))
            return away
    return []


async def _undo(cluster: Running, fault: Fault, leader: str, away: list[str]) -> None:
    """Bring back what has gone: a former leader finds that another leads."""
    match fault:
        case Fault.STOPPED:
            cluster.hosts[leader][_BALANCER].send(signal.SIGCONT)
        case Fault.CUT_OFF:
            cluster.network.let_through()
        case Fault.UNPLUGGED:
            cluster.network.plug_in(leader)
    await asyncio.gather(*(cluster.hosts[name].power_on() for name in away))


async def _leader(cluster: Running) -> str:
    await cluster.until(lambda: _leads(cluster), "a balancer that leads")
    leader = await cluster.leader()
    if leader is None:
        raise NotReady("the balancer that led does so no more, and nothing had happened")
    return leader


async def _leads(cluster: Running) -> bool:
    return await cluster.leader() is not None


async def _etcd_leader(cluster: Running) -> str:
    found = await cluster.etcd_leader()
    if found is None:
        raise NotReady("no member of etcd leads, and nothing had happened")
    return found


async def _hand_over(cluster: Running, leader: str) -> None:
    host = cluster.hosts[leader]
    done = await host.run(*ATRIA, "balancer", "hand-over", f"--config={host.config}")
    if done.returncode != 0:
        raise NotReady(f"atria balancer hand-over: {done.stderr.strip()}")


async def _expect_store(cluster: Running) -> None:
    """Store one instance: what is slow the first time is not slow later."""
    sent = await cluster.client.run(send_throughout(cluster.service, 0.0))
    if sent.fault is not None:
        raise NotReady(f"a store, before anything had happened: {sent.fault}")


async def _send(cluster: Running, seconds: float) -> Sent | None:
    """Send throughout; None when the association hangs, as one may whose other end is without power."""
    try:
        async with asyncio.timeout(seconds + _GRACE_S):
            return await cluster.client.run(send_throughout(cluster.service, seconds))
    except TimeoutError:
        return None


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something done for as long as the context lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _successes(prober: Prober, since_s: float) -> int:
    return sum(one.fault is None and one.began_s >= since_s for one in prober.probed.attempts)


async def _is(holds: bool) -> bool:
    return holds
