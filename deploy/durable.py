"""Files and folders that outlive a power cut, together with the folders above them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.durable import replace_durably, sync

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["replace_durably", "sync", "sync_above"]


def sync_above(path: Path) -> None:
    """Make a path durable in the folder above it, that in the next, and so on: they may be new as well.

    Raises
    ------
    OSError
    """
    for folder in path.parents:
        try:
            sync(folder)
        except PermissionError:  # nothing of ours can have been made in it
            return
