"""How long modalities notice that the balancer that leads has gone: on hosts of their own, under load."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import structlog

from chaos.hosts import boot, namespace
from chaos.hosts.cluster import NotReady
from chaos.hosts.description import described
from chaos.hosts.failover import Fault, HandOvers, Outcome, drill, hand_overs
from chaos.hosts.namespace import NetworkFailed
from deploy import minio, postgresql_programs
from tests import tools
from tests.bench.figures import RATIO, Bar, Figure
from tests.bench.plan import Bench
from tests.bench.processes import Broken

PART: Final = "failover"
_LEASE_S: Final = 3.0
_BARS_S: Final = {Fault.KILLED: _LEASE_S + 1, Fault.OFF_WITH_ETCD_LEADER: _LEASE_S + 4}
_HAND_OVER_BAR_S: Final = 1.0
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
        return asyncio.run(_figures(bench))
    except (NotReady, NetworkFailed) as error:
        raise Broken(str(error)) from error


async def _figures(bench: Bench) -> list[Figure]:
    outcomes: dict[Fault, list[Outcome]] = defaultdict(list)
    planned: list[HandOvers] = []
    values = described(bench.folder, minio.find_binary(), postgresql_programs.find_binaries())
    bench.note("starting five hosts")
    plan = bench.plan
    async with boot.running(bench.folder, values) as running:
        for turn in range(plan.failovers):
            for fault in _BARS_S:
                bench.note(f"the leader goes: {fault.value} ({turn + 1} of {plan.failovers})")
                outcomes[fault].append(await drill(running, fault, sending_s=_LOAD_S))
        for turn in range(plan.failovers // plan.failovers_spanned):
            bench.note(f"the leader hands over, {plan.failovers_spanned} times ({turn + 1})")
            planned.append(
                await hand_overs(running, plan.failovers_spanned, sending_s=plan.failover_sending_s)
            )
    return [figure for fault in _BARS_S for figure in _unplanned(fault, outcomes[fault])] + _planned(planned)


def _unplanned(fault: Fault, outcomes: list[Outcome]) -> list[Figure]:
    away_s = tuple(one.outage_s for one in outcomes)
    return [
        *_times(f"{fault.value}: a new association succeeds after", away_s, _BARS_S[fault]),
        _share(
            f"{fault.value}: turns in which one host at a time held the address",
            (_one_held(one.both_held_s) for one in outcomes),
        ),
    ]


def _planned(rows: list[HandOvers]) -> list[Figure]:
    what = Fault.HANDED_OVER.value
    gaps_s = tuple(gap_s for row in rows for gap_s in row.gaps_s)
    return [
        *_times(f"{what}: longest time without a new association", gaps_s, _HAND_OVER_BAR_S),
        _share(
            f"{what}: rows of them in which one host at a time held the address",
            (_one_held(row.both_held_s) for row in rows),
        ),
        _share(
            f"{what}: associations that sent throughout and ended with success",
            (sent.fault is None for row in rows for sent in row.sent),
        ),
        _share(f"{what}: rows of them in which every new one succeeded", (not row.refused for row in rows)),
    ]


def _times(what: str, seconds: tuple[float, ...], bar_s: float) -> list[Figure]:
    bar = Bar(bar_s, at_least=False)
    return [
        Figure(PART, what, "s", seconds, bar),
        Figure(PART, f"{what}, the worst", "s", (max(seconds),), bar),
    ]


def _one_held(both_held_s: float) -> bool:
    return both_held_s <= _HELD_AT_MOST_S


def _share(what: str, held: Iterable[bool]) -> Figure:
    return Figure(PART, what, RATIO, (statistics.fmean(held),), Bar(1.0, at_least=True))
