"""New associations: through the balancer, and straight to the worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench import peers
from tests.bench.association_caller import PROXIED
from tests.bench.figures import Figure, interleaved, ratio
from tests.bench.plan import Bench
from tests.bench.processes import Broken

PART: Final = "balancer-associations"
_THROUGH: Final = "through the balancer"
_STRAIGHT: Final = "straight to the worker"
_AT_ONCE: Final = 8
_TIMEOUT_S: Final = 60.0


def run(bench: Bench) -> list[Figure]:
    """Compare the two ways to one worker that does nothing.

    Raises
    ------
    Broken
        An association was not accepted, or not released.
    """
    with ExitStack() as stack:
        worker = stack.enter_context(peers.module("null_receiver", bench.folder, PROXIED))
        balancer = stack.enter_context(peers.module("balancer_alone", bench.folder, str(worker)))
        legs = {
            _STRAIGHT: _leg(worker, bench.plan.called_seconds, PROXIED),
            _THROUGH: _leg(balancer, bench.plan.called_seconds),
        }
        rates = interleaved(legs, bench.plan.called_rounds, bench.note)
    return [
        *(Figure(PART, f"associations {name}", "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _THROUGH, _STRAIGHT, at_least=0.5),
    ]


def _leg(port: int, seconds: float, *how: str) -> Callable[[], float]:
    def run() -> float:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.bench.association_caller",
                str(port),
                str(seconds),
                str(_AT_ONCE),
                *how,
            ],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S + seconds,
        )
        if done.returncode != 0:
            raise Broken(f"associations: {done.stderr.strip()[-2000:]}")
        return float(json.loads(done.stdout)["rate"])

    return run
