"""What is decided about instances: which fact is needed, from what the sites know (design, rule 3).

The epoch of a fact is one more than the highest that R sites knew. What was decided before was at W sites, so
one of the R knew it, and the new fact holds over it. Two who decide at the same time may take the same epoch:
a deletion holds over a revival then, at every site alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.nouns import Fact, FactKind
from storage_node.catalogue.views import ruling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from cluster.nouns import Instance

STORED_AGAIN = "stored again"
"""Why an instance was revived that nobody revived by hand."""


def decision(
    instance: Instance,
    known: Iterable[Iterable[Fact]],
    kind: FactKind,
    *,
    by: str,
    at: datetime,
    reason: str,
    details: Sequence[tuple[str, str]] = (),
) -> Fact:
    """Return the fact that has to be at W sites for a decision to hold.

    Where it is so already that is the fact that made it so: it is written again, as perhaps it never got to W
    sites, and so any decision may be repeated.

    Parameters
    ----------
    instance : Instance
        The subject.
    known : iterable of iterable of Fact
        What each of R sites or more knows about it.
    kind : FactKind
    by : str
        Who decides.
    at : datetime
    reason : str
    details : sequence of tuple of str
        See `Fact.details`.
    """
    given = tuple(sorted(details))
    held = ruling((fact for facts in known for fact in facts), kind.topic)
    if held is not None and (held.kind, held.details) == (kind, given):
        return held
    return Fact(instance, held.epoch + 1 if held else 1, kind, at, by, reason, given)


def to_be_shown(met: Mapping[str, Iterable[Fact]], *, by: str, at: datetime) -> Fact | None:
    """Return the fact that has to be at W sites so that an instance that was stored there is in answers.

    Nothing is needed where nothing was decided, nor where each of the sites knows that it was revived. A
    revival that some lack was perhaps never acknowledged: it is written again.

    Parameters
    ----------
    met : mapping of str to iterable of Fact
        What the insert met at each site that confirmed it: W or more, so whatever was acknowledged before.
    by : str
        AE title of the sender.
    at : datetime
    """
    by_site = [tuple(facts) for facts in met.values()]
    held = ruling(fact for facts in by_site for fact in facts)
    if held is None:
        return None
    if held.kind is not FactKind.REVIVED:
        return decision(held.instance, by_site, FactKind.REVIVED, by=by, at=at, reason=STORED_AGAIN)
    return held if any(held not in facts for facts in by_site) else None
