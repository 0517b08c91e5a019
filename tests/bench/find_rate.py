"""C-FIND through the balancer, by Patient ID, beside Orthanc with the same studies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from tests import tools
from tests.bench import cluster, peers
from tests.bench.figures import Figure, Leg, at, interleaved, ratio
from tests.bench.finder import FindJob
from tests.bench.legs import find, send
from tests.bench.plan import Bench
from tests.bench.sender import Job

PART: Final = "find-rate"
_ATRIA: Final = "Atria"
_ORTHANC: Final = "Orthanc"
_BAR: Final = 3.0
_SENDERS: Final = 8
"""Associations by which the studies are stored."""


def run(bench: Bench) -> list[Figure]:
    """Store small studies at both, the sites' catalogues being in PostgreSQL, and ask for them in turn.

    Raises
    ------
    Broken
        One of them did not work, or an answer was not all that was stored.
    """
    program = tools.orthanc()
    with ExitStack() as stack:
        bench.note("starting a cluster, and Orthanc")
        atria = stack.enter_context(cluster.atria(bench.folder / PART, catalogue="postgresql"))
        ports = {_ATRIA: atria.port}
        if program:
            ports[_ORTHANC] = stack.enter_context(peers.orthanc(program, bench.folder))
        bench.note(f"storing {bench.plan.found_studies:,} studies")
        _store(ports, bench.plan.found_studies)
        atria.wait_until_verified()
        seeds = itertools.count()
        return [
            figure
            for associations in bench.plan.associations
            for figure in _compare(bench, ports, associations, seeds)
        ]


def _store(ports: Mapping[str, int], studies: int) -> None:
    count = studies // _SENDERS
    with ThreadPoolExecutor() as pool:
        for sent in [
            pool.submit(send, Job("127.0.0.1", port, _SENDERS, count, first_study=0), name)
            for name, port in ports.items()
        ]:
            sent.result()


def _compare(bench: Bench, ports: Mapping[str, int], associations: int, seeds: Iterator[int]) -> list[Figure]:
    def found(name: str, port: int) -> Leg:
        def leg() -> float:
            studies, seconds = bench.plan.found_studies, bench.plan.find_seconds
            return find(FindJob(port, studies, associations, seconds, next(seeds)), name).rate

        return leg

    legs = {name: found(name, port) for name, port in ports.items()}
    rates = interleaved(legs, bench.plan.find_rounds, bench.note)
    suffix = at(associations)
    return [
        *(Figure(PART, name + suffix, "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _ORTHANC, suffix=suffix, at_least=_BAR),
    ]
