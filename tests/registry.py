"""A registry for tests of one process."""

from __future__ import annotations

from typing import Final

from cluster.coordination.leased_registry import LeasedRegistry
from cluster.coordination.memory import MemoryCoordination

_LEASE_S: Final = 10.0


def registry_in_memory() -> LeasedRegistry:
    """Return a registry that those share who hold the object. A loop must be running."""
    return LeasedRegistry(MemoryCoordination(), _LEASE_S)
