"""The shipped upkeep, begun at any moment in any process, and cut off at any moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from cluster.settings import Upkeep
from storage_node.upkeep.anti_entropy import AntiEntropy
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.listing import Listing
from storage_node.upkeep.repair import Repair
from storage_node.upkeep.scrub import Scrub
from tests.simulation.temper import Chore

if TYPE_CHECKING:
    from tests.simulation.process import Process

GRACE_S: Final = 12.0
"""Age at which an object without a row is no live writer's: longer than a store can take."""

_DAY_S: Final = 24 * 3600.0
_UPKEEP: Final = Upkeep().model_copy(  # which takes a grace of less than an hour: a history is short
    update={"orphan_grace_h": GRACE_S / 3600, "scrub_period_days": 5 / _DAY_S}
)


def run_of(chore: Chore, process: Process) -> Callable[[], Awaitable[object]]:
    """Return one run of a daemon, in a process."""
    grid = process.grid
    match chore:
        case Chore.REPAIR:
            return Repair(grid, _UPKEEP).run_once
        case Chore.ANTI_ENTROPY:
            return AntiEntropy(grid, _UPKEEP).run_once
        case Chore.LISTING:
            return Listing(grid, _UPKEEP).run_once
        case Chore.SCRUB:
            return Scrub(grid, _UPKEEP).run_once
        case Chore.COLLECTION:
            return Collection(grid, _UPKEEP).run_once
        case Chore.FILL:
            return Fill(grid, _UPKEEP, process.roster).run_once
