"""`python -m tests.simulation.leadership SEEDS [FIRST [MUTATION]]`: play histories until one goes wrong."""

from __future__ import annotations

import sys

import structlog

from tests.simulation.leadership import mutations


def main(seeds: int, first: int, mutation: str | None) -> int:
    """Play histories until one goes wrong, with the shipped code or a mutation of it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for one in mutations.ALL:
        if one.name == mutation:
            one.install()
    from tests.simulation.leadership.history import run  # only now: it imports what is mutated

    held_s = 0.0
    for seed in range(first, first + seeds):
        outcome = run(seed)
        held_s += outcome.held_s
        if outcome.violation:
            print(*outcome.trace, sep="\n")
            print(f"seed {seed}: {outcome.violation}")
            return 1
    print(f"{seeds} histories; the address was held for {held_s / seeds:.1f} s of each")
    return 0


if __name__ == "__main__":
    sys.exit(
        main(
            int(sys.argv[1]),
            int(sys.argv[2]) if len(sys.argv) > 2 else 0,
            sys.argv[3] if len(sys.argv) > 3 else None,
        )
    )
