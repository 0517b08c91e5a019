"""How long modalities notice that the balancer that leads has gone: on hosts of their own, under load."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import structlog

from chaos.hosts import cluster, namespace
from chaos.hosts.cluster import NotReady
from chaos.hosts.failover import Fault, Outcome, drill
from chaos.hosts.namespace import NetworkFailed
from deploy import minio, postgresql_programs
from tests import tools
from tests.bench.figures import RATIO, Bar, Figure
from tests.bench.plan import Bench
from tests.bench.processes import Broken

PART: Final = "failover"
_LEASE_S: Final = 3.0
_BARS_S: Final = {
    Fault.KILLED: _LEASE_S + 1,
    Fault.OFF_WITH_ETCD_LEADER: _LEASE_S + 4,
    Fault.HANDED_OVER: 1.0,
}
_LOAD_S: Final = 5.0
"""How long associations send while the leader goes unplanned: those that it relays are lost with it."""
_HELD_AT_MOST_S: Final = 0.25
"""In a hand-over two answers to ARP may cross."""


def run(bench: Bench) -> list[Figure]:
    """Have the leader go in three ways, turn by turn.

    Raises
    ------
    Broken
        The cluster did not come up, or not again.
    """
    if (why_not := namespace.why_not()) is not None or tools.etcd() is None:
        return [
            Figure(PART, "a new association succeeds after", "s", (), note=why_not or "etcd is not installed")
        ]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        outcomes = asyncio.run(_outcomes(bench))
    except (NotReady, NetworkFailed) as error:
        raise Broken(str(error)) from error
    return [figure for fault in _BARS_S for figure in _figures(fault, outcomes[fault])]


async def _outcomes(bench: Bench) -> dict[Fault, list[Outcome]]:
    outcomes: dict[Fault, list[Outcome]] = defaultdict(list)
    values = cluster.described(bench.folder, minio.find_binary(), postgresql_programs.find_binaries())
    bench.note("starting five hosts")
    async with cluster.running(bench.folder, values) as running:
        for turn in range(bench.plan.failovers):
            for fault in _BARS_S:
                bench.note(f"the leader goes: {fault.value} ({turn + 1} of {bench.plan.failovers})")
                sending_s = bench.plan.failover_sending_s if fault is Fault.HANDED_OVER else _LOAD_S
                outcomes[fault].append(await drill(running, fault, sending_s=sending_s))
    return outcomes


def _figures(fault: Fault, outcomes: list[Outcome]) -> list[Figure]:
    planned = fault is Fault.HANDED_OVER
    away_s = tuple(one.longest_gap_s if planned else one.until_success_s for one in outcomes)
    what = "longest time without a new one" if planned else "a new association succeeds after"
    bar = Bar(_BARS_S[fault], at_least=False)
    found = [
        Figure(PART, f"{fault.value}: {what}", "s", away_s, bar),
        Figure(PART, f"{fault.value}: the worst", "s", (max(away_s),), bar),
        _share(
            fault, "turns in which one host at a time held the address", [_one_held(one) for one in outcomes]
        ),
    ]
    if planned:
        ended = (sent.fault is None for one in outcomes for sent in one.sent)
        found.append(_share(fault, "associations that sent throughout and ended with success", ended))
        found.append(
            _share(fault, "turns in which every new one succeeded", [not one.refused for one in outcomes])
        )
    return found


def _one_held(outcome: Outcome) -> bool:
    return outcome.both_held_s <= _HELD_AT_MOST_S


def _share(fault: Fault, what: str, held: Iterable[bool]) -> Figure:
    share = statistics.fmean(held)
    return Figure(PART, f"{fault.value}: {what}", RATIO, (share,), Bar(1.0, at_least=True))
