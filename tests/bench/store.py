"""Storing: three fsynced copies and three catalogue rows each, through the balancer."""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from typing import Final

from tests import tools
from tests.bench import cluster, peers
from tests.bench.figures import Figure, Leg, at, interleaved, ratio
from tests.bench.legs import send, write
from tests.bench.plan import Bench
from tests.bench.sender import Job

PART: Final = "store"
_ATRIA: Final = "Atria"
_FILES: Final = "writing three files"
_ORTHANC: Final = "Orthanc"


def run(bench: Bench) -> list[Figure]:
    """Compare storing with writing the same bytes, and with Orthanc, at each number of associations.

    Raises
    ------
    Broken
        One of them did not work, or what Atria acknowledged is not at all three sites.
    """
    program = tools.orthanc()
    with ExitStack() as stack:
        atria = stack.enter_context(cluster.atria(bench.folder / "store"))
        ports = {_ATRIA: atria.port}
        if program:
            ports[_ORTHANC] = stack.enter_context(peers.orthanc(program, bench.folder))
        figures = [figure for number in bench.plan.associations for figure in _compare(bench, ports, number)]
        bench.note("is every instance at every site?")
        atria.wait_until_verified()
        return figures


def _compare(bench: Bench, ports: dict[str, int], associations: int) -> list[Figure]:
    count, seconds = bench.plan.store_count // associations, bench.plan.store_seconds
    folders = (bench.folder / f"files-{associations}-{number}" for number in itertools.count())

    def sent(name: str, port: int) -> Leg:
        def leg() -> float:
            os.sync()
            return send(Job("127.0.0.1", port, associations, count, seconds), name).rate

        return leg

    def written() -> float:
        os.sync()
        # What was written stays until the end: a file system that looks for free inodes among those of files
        # deleted a moment ago takes ten times as long to make one, and whose turn is next would pay for it.
        return write(next(folders), associations, count, seconds).rate

    legs = {_ATRIA: sent(_ATRIA, ports[_ATRIA]), _FILES: written}
    if _ORTHANC in ports:
        legs[_ORTHANC] = sent(_ORTHANC, ports[_ORTHANC])
    rates = interleaved(legs, bench.plan.store_rounds, bench.note)
    suffix = at(associations)
    return [
        *(Figure(PART, name + suffix, "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _FILES, suffix=suffix, at_least=0.6),
        ratio(PART, rates, _ATRIA, _ORTHANC, suffix=suffix, at_least=1.0 if associations == 1 else None),
    ]
