"""What must hold, holds in thousands of histories; and each way to break it that we know of is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import mutation
from tests.simulation.history import run

HISTORIES = 2000
CAUGHT_WITHIN = 4000


def simulate(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--jobs", "1", *arguments],
        env={"PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tenth", range(10))
def test_whatever_fails_what_was_acknowledged_is_kept_and_found(tenth: int) -> None:
    first = tenth * HISTORIES // 10
    for seed in range(first, first + HISTORIES // 10):
        outcome = run(seed)
        assert not outcome.violation, "\n".join((f"seed {seed}: {outcome.violation}", *outcome.last_steps))


def test_a_seed_is_the_same_history_whatever_the_hashes_are() -> None:
    one, other = (simulate("--seeds", "20", "--digests", hash_seed=seed) for seed in ("1", "2"))
    assert one.returncode == 0, one.stdout + one.stderr
    digests = one.stdout.splitlines()[:20]
    assert len(set(digests)) == 20
    assert digests == other.stdout.splitlines()[:20]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", mutation.names())
def test_a_mutation_of_the_shipped_code_is_caught(name: str) -> None:
    tried_first = mutation.load(name).caught_by
    found = simulate("--mutation", name, "--first", str(tried_first), "--seeds", "1")
    if found.returncode == 0:
        found = simulate("--mutation", name, "--until-failure", "--seeds", str(CAUGHT_WITHIN))
    assert not found.stderr, found.stderr
    assert found.returncode == 1, f"{name} is not caught by {CAUGHT_WITHIN} seeds"
    assert "Fault:" not in found.stdout, f"{name} does not work, rather than working wrongly: {found.stdout}"
