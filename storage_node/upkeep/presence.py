"""What needs every site: all of them up, and none without its vote (design, rule 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage_node.grid.sites import GridSite, Sites


class NotNow(Exception):
    """Not every site can be asked: nothing more may be removed."""


def all_voting(sites: Sites) -> Sequence[GridSite]:
    """Return all sites.

    Raises
    ------
    NotNow
        One of them is down, or is being filled.
    """
    for name, health in sites.health().items():
        if not health.votes:
            raise NotNow(f"site {name}: {health.why}")
    return sites.voters()
