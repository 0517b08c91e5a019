"""What is decided about instances: which fact is needed, from what the sites know (design, rule 3).

The epoch of a fact is one more than the highest that R sites knew. What was decided before was at W sites, so
one of the R knew it, and the new fact holds over it. Two who decide at the same time may take the same epoch:
a deletion holds over a revival then, at every site alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.nouns import Fact, FactKind
from cluster.settings import Resend
from storage_node.catalogue.views import purged, ruling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from cluster.nouns import Instance
    from storage_node.catalogue.protocol import Entry

STORED_AGAIN = "stored again"
"""Why an instance was revived, or deleted anew, of which nobody decided that by hand."""

UPKEEP = "atria"
"""Who decides what follows from a decision and the settings alone."""


class Gone(Exception):
    """An instance was purged: its bytes have gone, or go at any moment, and no decision brings them back."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(
            f"instance {instance.sop_instance_uid} was purged, and no bytes of it are kept any more; who"
            " sends it again has it back"
        )


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
    sites, and so any decision may be repeated. What was purged is as good as deleted.

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

    Raises
    ------
    Gone
        It is to be revived, and was purged.
    """
    given = tuple(sorted(details))
    held = ruling((fact for facts in known for fact in facts), kind.topic)
    if held is not None and held.kind is FactKind.PURGED:
        if kind is FactKind.REVIVED:
            raise Gone(instance)
        return held
    if held is not None and (held.kind, held.details) == (kind, given):
        return held
    return Fact(instance, held.epoch + 1 if held else 1, kind, at, by, reason, given)


def to_be_shown(
    digest: str,
    met: Mapping[str, Iterable[Fact]],
    *,
    by: str,
    at: datetime,
    resend: Resend = Resend.REVIVES,
) -> Fact | None:
    """Return the fact that has to be at W sites so that an instance that was stored there is in answers.

    Nothing is needed where nothing was decided, nor where each of the sites knows that it was revived. A
    revival that some lack was perhaps never acknowledged: it is written again. Where what is sent again is to
    stay deleted, a deletion will do; but what was purged is deleted anew, so that its bytes are kept as long
    as those of anything else that is deleted.

    Parameters
    ----------
    digest : str
        The version that was stored. If its bytes had gone, the fact says that they came back.
    met : mapping of str to iterable of Fact
        What the insert met at each site that confirmed it: W or more, so whatever was acknowledged before.
    by : str
        AE title of the sender.
    at : datetime
    resend : Resend
    """
    by_site = [tuple(facts) for facts in met.values()]
    held = ruling(fact for facts in by_site for fact in facts)
    if held is None:
        return None
    stays = resend is Resend.STAYS_DELETED and held.kind is not FactKind.REVIVED
    kind = FactKind.DELETED if stays else FactKind.REVIVED
    came_back = any(digest in purged(facts) for facts in by_site)
    if came_back or held.kind is not kind:
        details = (("digest", digest),) if came_back else ()
        return Fact(held.instance, held.epoch + 1, kind, at, by, STORED_AGAIN, details)
    return held if any(held not in facts for facts in by_site) else None


def purge(deletion: Fact, entries: Iterable[Entry], *, at: datetime, reason: str) -> Fact:
    """Return the fact by which the bytes of a deleted instance go.

    Its epoch is the one above the deletion's, whatever was decided meanwhile: that holds over it.

    Parameters
    ----------
    deletion : Fact
        That which holds at each site.
    entries : iterable of Entry
        The instance's versions, of which each site has all.
    at : datetime
    reason : str
    """
    versions = sorted((entry.digest, entry.order) for entry in entries)
    details = (
        ("digests", " ".join(digest for digest, _ in versions)),
        ("order", str(max(order for _, order in versions))),
    )
    return Fact(deletion.instance, deletion.epoch + 1, FactKind.PURGED, at, UPKEEP, reason, details)


def order_above_purged(met: Mapping[str, Iterable[Fact]], digest: str) -> int | None:
    """Return the order that a version which was stored again needs, to come before others that are gone.

    None if its bytes had not gone, by all that the sites which confirmed its row knew.
    """
    by_site = [tuple(facts) for facts in met.values()]
    if not any(digest in purged(facts) for facts in by_site):
        return None
    purges = [fact for facts in by_site for fact in facts if fact.kind is FactKind.PURGED]
    return 1 + max(int(fact.detail("order") or 0) for fact in purges)


def was_deleted(met: Mapping[str, Iterable[Fact]]) -> bool:
    """Return whether an instance was deleted, by what an insert met at each site that confirmed it."""
    held = ruling(fact for facts in met.values() for fact in facts)
    return held is not None and held.kind is not FactKind.REVIVED
