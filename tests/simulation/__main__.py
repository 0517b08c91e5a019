"""`python -m tests.simulation`: run many histories, and print the seed of each in which something failed."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation import mutation

if TYPE_CHECKING:
    from tests.simulation.history import Outcome

_AT_A_TIME = 10
"""Histories that a process takes upon itself at a time."""


def main() -> int:
    """Return 1 if something that must hold did not, 2 if a mutation is stale."""
    asked = _arguments()
    if asked.mutation:
        try:
            mutation.load(asked.mutation).install()
        except mutation.Stale as error:
            print(error, file=sys.stderr)
            return 2
    failures = done = 0
    began = time.monotonic()
    for outcome in _outcomes(range(asked.first, asked.first + asked.seeds), asked.jobs):
        done += 1
        if asked.digests:
            print(outcome.seed, outcome.trace_digest)
        if outcome.violation:
            failures += 1
            print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
            if asked.steps:
                print(*outcome.last_steps, sep="\n")
            if asked.until_failure:
                break
    rate = done / (time.monotonic() - began)
    print(f"{done} histories, {failures} of which failed; {rate:.0f} a second")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="number of histories")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes, one a core as a rule"
    )
    parser.add_argument("--mutation", choices=mutation.names(), help="break the shipped code in this way")
    parser.add_argument("--until-failure", action="store_true", help="end at the first failure")
    parser.add_argument("--digests", action="store_true", help="print what tells each history from others")
    parser.add_argument("--steps", action="store_true", help="print the last steps before each failure")
    return parser.parse_args()


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    """Yield how each history ended, in the order of the seeds."""
    from tests.simulation.history import run  # only now, as it imports the shipped code

    if min(jobs, len(seeds)) == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:  # which takes a mutation along
        yield from pool.imap(run, seeds, chunksize=_AT_A_TIME)


if __name__ == "__main__":
    sys.exit(main())
