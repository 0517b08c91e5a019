"""How long and how much: one plan for a measurement, one for a look whether the bench still works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.figures import Note


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of everything. They bound what is written: `store_count` in each round, and `frames`."""

    associations: tuple[int, ...] = (1, 4)
    receive_rounds: int = 5
    receive_seconds: float = 1.5
    store_rounds: int = 9
    """More of them, and short: a disk's speed drifts from one second to the next."""
    store_count: int = 240
    """Instances in one leg at most, over all its associations: 0.38 GB at three sites."""
    store_seconds: float = 3.0
    memory_first: int = 200
    memory_more: int = 1000
    frames: int = 2048
    """Frames of each of the four large instances: 1 GiB of pixels."""
    starts: int = 3
    header_repeats: int = 2000
    minio_associations: tuple[int, ...] = (1, 8)
    minio_rounds: int = 7
    minio_count: int = 160
    """Instances in one leg at most, over all its associations: 0.25 GB at three servers."""
    minio_seconds: float = 2.0
    minio_retrieved: int = 480
    """Instances of the study that is retrieved: a second and more of each turn."""
    minio_large_rounds: int = 2
    minio_refilled: int = 600
    """Instances that an empty site is filled with."""
    minio_refills: int = 3
    catalogue_rounds: int = 5
    catalogue_rows: int = 6000
    """Rows that are added in one turn."""
    few_studies: int = 10_000
    many_studies: int = 1_300_000
    listed_studies: int = 40
    """Of them, those that are listed instance by instance."""
    catalogue_finds: int = 50
    """Of each kind in a round, each of another value."""
    catalogue_adds: int = 200
    """In a turn."""
    found_studies: int = 10_000
    find_rounds: int = 5
    find_seconds: float = 2.0
    rebuilt_instances: int = 3000
    """1.6 GB at each of three sites."""
    rebuilds: int = 3
    streams: tuple[int, ...] = (1, 8)
    relay_rounds: int = 7
    relay_seconds: float = 1.5
    called_rounds: int = 7
    called_seconds: float = 2.0
    idle_associations: int = 3000
    failovers: int = 20
    """Times that the leader goes, in each way."""
    failover_sending_s: float = 60.0
    """How long associations send throughout that span hand-overs."""
    failovers_spanned: int = 5
    """Hand-overs that they span."""


QUICK: Final = Plan(
    associations=(4,),
    receive_rounds=1,
    receive_seconds=0.1,
    store_rounds=1,
    store_count=12,
    memory_first=20,
    memory_more=40,
    frames=64,
    starts=1,
    header_repeats=20,
    minio_associations=(2,),
    minio_rounds=1,
    minio_count=12,
    minio_seconds=2.0,
    minio_retrieved=12,
    minio_large_rounds=1,
    minio_refilled=24,
    minio_refills=1,
    catalogue_rounds=1,
    catalogue_rows=200,
    few_studies=100,
    many_studies=2000,
    listed_studies=2,
    catalogue_finds=4,
    catalogue_adds=16,
    found_studies=80,
    find_rounds=1,
    find_seconds=0.3,
    rebuilt_instances=24,
    rebuilds=1,
    streams=(2,),
    relay_rounds=1,
    relay_seconds=0.5,
    called_rounds=1,
    called_seconds=0.2,
    idle_associations=100,
    failovers=1,
    failover_sending_s=10.0,
    failovers_spanned=1,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part of the bench is given."""

    plan: Plan
    folder: Path
    """This part's own, on the disk that is measured; removed when the part is done."""
    note: Note
