"""What happens to the front door when the balancer that leads goes, in one way or another, under load."""

from __future__ import annotations

import asyncio
import enum
import signal
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from chaos.hosts.address_watch import Tenure, both_held_s
from chaos.hosts.cluster import NotReady
from chaos.hosts.description import ATRIA
from chaos.hosts.observing import GRACE_S, under_load

if TYPE_CHECKING:
    from chaos.hosts.cluster import Running
    from chaos.hosts.sender import Sent

_BALANCER: Final = "balancer"
_RECOVERY_TIMEOUT_S: Final = 30.0


class Fault(enum.Enum):
    """How the balancer that leads goes."""

    KILLED = "its process is killed"
    STOPPED = "its process is stopped, and goes on when another leads"
    CUT_OFF = "its host reaches nobody, and does not see that"
    UNPLUGGED = "its host's cable is out"
    OFF = "its host is switched off"
    OFF_WITH_ETCD_LEADER = "its host is switched off, and with it the one whose etcd leads"
    HANDED_OVER = "it is told to hand over"


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
    cluster: Running,
    fault: Fault,
    *,
    sending_s: float = 10.0,
    watching_s: float = 4.0,
    timeout_s: float = 1.0,
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
    timeout_s : float
        How long a new association may take, with a C-ECHO, until it counts as refused.

    Raises
    ------
    NotReady
        It does not work again, or all is not well after what has gone is back.
    """
    leader = await cluster.until_led()
    async with under_load(cluster, sending_s, timeout_s=timeout_s) as seen:
        moment_s = time.monotonic()
        away = await _inflict(cluster, fault, leader)
        await seen.until_success(cluster, time.monotonic(), _RECOVERY_TIMEOUT_S)
        await _undo(cluster, fault, leader, away)
        await asyncio.sleep(watching_s)
    await cluster.until(cluster.is_ready, "all back")
    return Outcome(
        fault,
        seen.probed.longest_gap_s(moment_s),
        seen.longest_gap_s,
        tuple(Tenure(one.mac, one.begin_s - moment_s, one.end_s - moment_s) for one in seen.tenures),
        tuple(seen.sent),
        tuple(seen.probed.faults_since(moment_s)),
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
    await cluster.until_led()
    async with under_load(cluster, sending_s) as seen:
        moments_s = [time.monotonic() + turn * (sending_s - GRACE_S) / times for turn in range(times + 1)]
        for moment_s in moments_s[:-1]:
            await asyncio.sleep(max(0.0, moment_s - time.monotonic()))
            await _hand_over(cluster, await cluster.until_led())
    return HandOvers(
        tuple(seen.probed.longest_gap_s(begin, end) for begin, end in pairwise(moments_s)),
        seen.both_held_s,
        tuple(seen.sent),
        tuple(seen.probed.faults),
    )


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
