from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.hosts import namespace
from tests import tools
from tests.bench.__main__ import PARTS
from tests.postgresql import reachable_folder

_ROOT = Path(__file__).parents[3]
_RUNS = [
    ["receive", "store", "header", "memory", "start"],
    ["minio-ingest", "minio-get"],
    ["minio-hung", "minio-large"],
    ["minio-refill"],
    ["postgresql-ingest", "catalogue-rows"],
    ["catalogue-million", "find-rate"],
    ["catalogue-rebuild"],
    ["balancer-relay", "balancer-associations", "balancer-idle"],
]
_ON_HOSTS = ["failover"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as made:
        yield made


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=220)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "chosen",
    [*_RUNS, pytest.param(_ON_HOSTS, marks=pytest.mark.hosts)],
    ids=" ".join,
)
def test_every_part_of_the_bench_works_and_leaves_nothing_behind(chosen: list[str], folder: Path) -> None:
    done = _bench("--quick", "--json", "--folder", str(folder), *chosen)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {figure["part"] for figure in figures} == set(chosen)
    installed = {
        "DCMTK": tools.dcmtk("storescp"),
        "Orthanc": tools.orthanc(),
        "HAProxy": tools.haproxy(),
    }
    for figure in figures:
        missing = any(name in figure["name"] and not program for name, program in installed.items())
        missing |= figure["part"] == "failover" and namespace.why_not() is not None
        assert (figure["verdict"] == "not measured") == missing, figure
        assert figure["median"] is None or figure["median"] > 0
    assert list(folder.iterdir()) == []


def test_a_part_that_is_not_known_is_refused() -> None:
    done = _bench("receive", "nonsense")
    assert done.returncode == 2
    assert "nonsense: expected some of receive" in done.stderr


def test_every_part_is_in_one_of_these_runs() -> None:
    assert sorted(part for run in [*_RUNS, _ON_HOSTS] for part in run) == sorted(PARTS)


@pytest.mark.parametrize("arguments", [["--quick", "header"]])
def test_a_table_is_printed_for_people(arguments: list[str], tmp_path: Path) -> None:
    done = _bench(*arguments, "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "≤ 1" in done.stdout
