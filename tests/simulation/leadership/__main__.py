"""`python -m tests.simulation.leadership SEEDS [FIRST]`: play histories; print those that went wrong."""

from __future__ import annotations

import sys

import structlog

from tests.simulation.leadership.history import run

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
seeds, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
wrong, held = 0, 0.0
for seed in range(first, first + seeds):
    outcome = run(seed)
    held += outcome.held_s
    if outcome.violation:
        wrong += 1
        if wrong <= 3:
            print(*outcome.trace, sep="\n")
        print(f"seed {seed}: {outcome.violation}")
print(f"{seeds} histories, {wrong} went wrong; the address was held for {held / seeds:.1f} s of each")
sys.exit(wrong > 0)
