"""One contender's turn: a sender, getter, finder, writer or bare S3 client, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.bench.finder import FindJob
from tests.bench.processes import Broken
from tests.bench.s3_baseline import BareJob
from tests.bench.sender import Job, Result

_TIMEOUT_S: Final = 900.0


def send(job: Job, whom: str) -> Result:
    """Run a sender.

    Raises
    ------
    Broken
        An instance was not acknowledged.
    """
    return _run(["tests.bench.sender", json.dumps(asdict(job))], whom)


def write(folder: Path, threads: int, count: int, seconds: float) -> Result:
    """Run the writer: `count` instances in each thread, or as many as fit into `seconds`.

    Raises
    ------
    Broken
        A file could not be written.
    """
    arguments = [str(folder), str(threads), str(count), str(seconds)]
    return _run(["tests.bench.write_baseline", *arguments], "writing files")


def get(port: int, study_instance_uid: str, instances: int, whom: str) -> Result:
    """Run a getter for a study of so many instances.

    Raises
    ------
    Broken
        They did not all come.
    """
    result = _run(["tests.bench.getter", "127.0.0.1", str(port), study_instance_uid], whom)
    if result.instances != instances:
        raise Broken(f"{whom}: {result.instances} of {instances} instances came")
    return result


def find(job: FindJob, whom: str) -> Result:
    """Run a finder.

    Raises
    ------
    Broken
        A query was not answered, or not with all that matches.
    """
    return _run(["tests.bench.finder", json.dumps(asdict(job))], whom)


def bare(job: BareJob) -> Result:
    """Run a bare S3 client.

    Raises
    ------
    Broken
        A server refused something.
    """
    return _run(["tests.bench.s3_baseline", json.dumps(asdict(job))], "a bare S3 client")


def _run(arguments: list[str], whom: str) -> Result:
    try:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{whom}: no end after {_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise Broken(f"{whom}: {done.stderr.strip()[-2000:]}")
    result = Result(**json.loads(done.stdout))
    if result.fault:
        raise Broken(f"{whom}: {result.fault}")
    return result
