"""From the start of `atria up` to the first instance that is stored and acknowledged."""

from __future__ import annotations

from typing import Final

from tests.bench import cluster
from tests.bench.figures import Bar, Figure
from tests.bench.plan import Bench

PART: Final = "start"
_BAR: Final = Bar(4.0, at_least=False)


def run(bench: Bench) -> list[Figure]:
    """Start clusters with no data, and start each again with what it holds.

    Raises
    ------
    Broken
        One did not start.
    """
    new: list[float] = []
    again: list[float] = []
    for number in range(bench.plan.starts):
        folder = bench.folder / f"start-{number}"
        for times, what in ((new, "new"), (again, "again")):
            bench.note(f"starting a cluster, {what} ({number + 1} of {bench.plan.starts})")
            with cluster.atria(folder) as started:
                times.append(started.ready_after_s)
    return [
        Figure(PART, "a new cluster stores after", "s", tuple(new), _BAR),
        Figure(PART, "the same, started again", "s", tuple(again), _BAR),
    ]
