"""Associations that are held and say nothing: what they cost the balancer."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench import peers
from tests.bench.association_caller import PROXIED, associate
from tests.bench.figures import Bar, Figure
from tests.bench.plan import Bench
from tests.bench.processes import Broken, resident_memory_bytes

PART: Final = "balancer-idle"
_MIB: Final = 1024 * 1024
_MOST_MIB: Final = 200.0
_OTHER_DESCRIPTORS: Final = 256


def run(bench: Bench) -> list[Figure]:
    """Hold associations, and look what that takes; then use one of those with the highest descriptors.

    Raises
    ------
    Broken
        They were not all accepted.
    """
    count = bench.plan.idle_associations
    _allow_descriptors(count + _OTHER_DESCRIPTORS)
    with ExitStack() as stack:
        worker = stack.enter_context(peers.module("null_receiver", bench.folder, PROXIED))
        balancer = stack.enter_context(peers.measured("balancer_alone", bench.folder, str(worker)))
        before = resident_memory_bytes(balancer.pid)
        bench.note(f"holding {count} associations")
        for number in range(count):
            try:
                stack.enter_context(associate(balancer.port))
            except OSError as error:
                raise Broken(f"association {number + 1} of {count}: {error}") from error
        after = resident_memory_bytes(balancer.pid)
        descriptors = len(list(Path(f"/proc/{balancer.pid}/fd").iterdir()))
    note = f"{descriptors} descriptors"
    return [
        Figure(PART, "balancer with no association", "MiB", (before / _MIB,)),
        Figure(
            PART,
            f"balancer that holds {count}",
            "MiB",
            (after / _MIB,),
            Bar(_MOST_MIB, at_least=False),
            note,
        ),
        Figure(PART, "each of them", "KiB", ((after - before) / count / 1024,)),
    ]


def _allow_descriptors(wanted: int) -> None:
    """Raise the limit of the bench and of what it starts.

    Raises
    ------
    Broken
        The system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            raise Broken(f"needs {wanted} file descriptors, and {hard} are allowed (ulimit -Hn)") from error
