"""`python -m tests.simulation`: run many histories, and print the seed of each in which something failed."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import mutation


def main() -> int:
    """Return 1 if something that must hold did not, 2 if a mutation is stale."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="number of histories")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--mutation", choices=mutation.names(), help="break the shipped code in this way")
    parser.add_argument("--until-failure", action="store_true", help="end at the first failure")
    parser.add_argument("--digests", action="store_true", help="print what tells each history from others")
    parser.add_argument("--steps", action="store_true", help="print the last steps before each failure")
    asked = parser.parse_args()
    if asked.mutation:
        try:
            mutation.load(asked.mutation).install()
        except mutation.Stale as error:
            print(error, file=sys.stderr)
            return 2
    from tests.simulation.history import run  # only now: it imports the shipped code

    failures = done = 0
    began = time.monotonic()
    for seed in range(asked.first, asked.first + asked.seeds):
        outcome = run(seed)
        done += 1
        if asked.digests:
            print(seed, outcome.trace_digest)
        if outcome.violation:
            failures += 1
            print(f"seed {seed}: {outcome.violation}", flush=True)
            if asked.steps:
                print(*outcome.last_steps, sep="\n")
            if asked.until_failure:
                break
    rate = done / (time.monotonic() - began)
    print(f"{done} histories, {failures} of which failed; {rate:.0f} a second")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
