"""Making a site's PostgreSQL catalogue anew from the objects in its folder, by the operator's command."""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import Final

from tests.bench import cluster
from tests.bench.cluster import Cluster
from tests.bench.figures import Bar, Figure
from tests.bench.legs import send
from tests.bench.plan import Bench
from tests.bench.processes import Broken
from tests.bench.sender import Job

PART: Final = "catalogue-rebuild"
_NAME: Final = "a site's catalogue rebuilt"
_BAR: Final = Bar(500, at_least=True)
_SITE: Final = "b"
_SENDERS: Final = 4
_TIMEOUT_S: Final = 300.0
_SHORTEST_S: Final = 0.1
"""Where the difference is nothing but noise."""


def run(bench: Bench) -> list[Figure]:
    """Store CT images, and have one site's catalogue rebuilt while the cluster runs, in each round.

    What the command takes when there is next to nothing to read is taken off what it takes with all of them.

    Raises
    ------
    Broken
        Something did not work, or not every copy has a row in the end.
    """
    bench.note("starting a cluster")
    with cluster.atria(bench.folder / PART, catalogue="postgresql") as atria:
        with_none = _rebuilds(bench, atria)  # the instance that says that the cluster is ready
        bench.note("storing what there will be to read")
        count = bench.plan.rebuilt_instances // _SENDERS
        send(Job("127.0.0.1", atria.port, _SENDERS, count), "Atria")
        atria.wait_until_verified()
        with_all = _rebuilds(bench, atria)
    start_s = statistics.median(with_none)
    rates = tuple(_SENDERS * count / max(seconds - start_s, _SHORTEST_S) for seconds in with_all)
    return [
        Figure(PART, _NAME, "/s", rates, _BAR),
        Figure(PART, "the command, for one instance", "s", tuple(with_none)),
        Figure(PART, f"the command, for {_SENDERS * count:,}", "s", tuple(with_all)),
    ]


def _rebuilds(bench: Bench, atria: Cluster) -> list[float]:
    """Rebuild the catalogue in each round; return how long the commands took."""
    taken = []
    for number in range(bench.plan.rebuilds):
        bench.note(f"rebuilding a catalogue ({number + 1} of {bench.plan.rebuilds})")
        taken.append(_rebuild(atria))
        atria.wait_until_verified()
    return taken


def _rebuild(atria: Cluster) -> float:
    """Have it rebuilt; upkeep may do part of the work. The command ends well when the site has everything."""
    command = cluster.atria_command("catalogue rebuild", atria.folder, atria.config)
    began = time.monotonic()
    done = subprocess.run(
        [*command, _SITE, "--yes", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise Broken(f"atria catalogue rebuild: {done.stdout}{done.stderr}")
    return seconds
