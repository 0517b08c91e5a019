"""Which purges have settled: no decision that did not know of them is under way any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Final

from cluster.nouns import FactKind
from storage_node.catalogue.views import fact_fingerprint
from storage_node.grid.record import FRESH_S
from storage_node.upkeep.presence import all_voting
from storage_node.upkeep.studies import gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.nouns import Fact
    from storage_node.grid.sites import Sites
    from storage_node.upkeep.studies import Name

_WAIT: Final = timedelta(seconds=FRESH_S)


@dataclass(frozen=True, slots=True)
class _Seen:
    purges: int
    """Fingerprint of the purges of a study that each site knew."""
    at: datetime


class SettledPurges:
    """What this process has seen of purges, from one round to the next.

    A decision about an instance asks R sites, or W, what was decided before, and is refused if it is not done
    `FRESH_S` later (`storage_node.grid.record`). Once every site has known of a purge for that long, whoever
    decides knows of it; and whoever did not has been refused, or W sites know of his decision. Nobody writes
    down since when a site knows of something. So that is counted from when it was seen.

    Parameters
    ----------
    sites : Sites
    now : callable
        Returns the time, aware.
    """

    def __init__(self, sites: Sites, now: Callable[[], datetime]) -> None:
        self._sites = sites
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._seen_before: dict[str, _Seen] = {}

    def begin_round(self) -> None:
        """Forget what was not looked at in the round before."""
        self._seen_before, self._seen = self._seen, {}

    async def of_study(self, uid: str) -> frozenset[Name]:
        """Return the versions of a study that are gone, by purges that have settled.

        Raises
        ------
        NotNow, SiteFailed
            Not every site says so.
        """
        asked_at = self._now()
        at_sites = [
            frozenset(await self._sites.ask(site, site.catalogue.facts_in(uid)))
            for site in all_voting(self._sites)
        ]
        everywhere = frozenset.intersection(*at_sites)
        facts = frozenset(
            fact for fact in frozenset.union(*at_sites) if fact in everywhere or not _is_purge(fact)
        )
        versions = gone(facts)
        if not versions:
            return versions
        purges = reduce(xor, (fact_fingerprint(fact) for fact in facts if _is_purge(fact)))
        seen = self._seen.get(uid) or self._seen_before.get(uid)
        if seen is None or seen.purges != purges:
            seen = _Seen(purges, self._now())
        self._seen[uid] = seen
        return versions if asked_at - seen.at >= _WAIT else frozenset()


def _is_purge(fact: Fact) -> bool:
    return fact.kind is FactKind.PURGED
