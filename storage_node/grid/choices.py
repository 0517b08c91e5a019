"""Which of an instance's versions is current, where that is not simply the newest (design, "Writing").

Another header over the same pixels is its sender's correction, and the newest holds. Where the pixels differ,
or where what is new has lost some, the first stays until a person chooses. What is decided here by itself is
told from a person's choice by its `relation`. A person's stands, whatever comes, until the instance is
deleted and sent again.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from storage_node.catalogue.views import currency

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.nouns import Fact, Version
    from storage_node.catalogue.protocol import Row

AUTOMATIC: Final = "atria"
"""Who decided what no person did."""
UNDECIDED: Final = "undecided"
"""What is between a version that a person chose and one that came since, in place of a relation."""
_NAME_LENGTH: Final = 16
_SEEN_LIMIT: Final = 64
"""Versions that a choice names at most: one that is sent again and is not named is compared again."""


class Relation(enum.StrEnum):
    """What a version is to one that came before."""

    ALTERNATE = "alternate"
    """The same content in another encoding."""
    CORRECTION = "correction"
    """The same pixels with another header."""
    AFTER_DELETION = "after_deletion"
    """Whatever it is, it was sent when all that came before had been deleted."""
    LOSSY = "lossy"
    """Other pixels, as some of what the first shows was lost by compression."""
    UNCOMPARED = "uncompared"
    """Nobody can tell whether the pixels are the same."""
    CONFLICT = "conflict"
    """Other pixels."""

    @property
    def replaces(self) -> bool:
        """Whether the newer one becomes the current one."""
        return self in (Relation.ALTERNATE, Relation.CORRECTION, Relation.AFTER_DELETION)

    @property
    def needs_a_person(self) -> bool:
        """Whether somebody has to look which is the right one."""
        return self in (Relation.UNCOMPARED, Relation.CONFLICT)

    @property
    def reason(self) -> str:
        """Why a version was chosen over one that is this to it."""
        return _REASONS[self]


_REASONS: Final = {
    Relation.ALTERNATE: "the same content in another encoding",
    Relation.CORRECTION: "corrected by its sender",
    Relation.AFTER_DELETION: "sent after the instance had been deleted",
    Relation.LOSSY: "lossy after lossless",
    Relation.UNCOMPARED: "conflict: pixels that cannot be compared",
    Relation.CONFLICT: "conflict: other pixels",
}
_SEVERITY: Final = {relation: number for number, relation in enumerate(Relation)}


def severest(relations: Iterable[Relation]) -> Relation:
    """Return the relation that says most of why the newest is not simply the current one."""
    return max(relations, key=_SEVERITY.__getitem__, default=Relation.ALTERNATE)


def relation_of(fact: Fact) -> Relation | None:
    """Return why a version was chosen; None if a person chose it."""
    relation = fact.detail("relation")
    return None if relation is None else Relation(relation)


def seen(fact: Fact) -> tuple[str, ...]:
    """Return what stands for the versions that a choice was made among (`name`)."""
    return tuple((fact.detail("seen") or "").split())


def name(version: Version) -> str:
    """Return what stands for a version in a choice: enough of its digest to tell it from the others."""
    return version.digest[:_NAME_LENGTH]


def details(
    version: Version, among: Iterable[str], relation: Relation | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the details of a choice.

    Parameters
    ----------
    version : Version
        The one that is chosen.
    among : iterable of str
        What stands for those that were looked at, the latest last; of very many the latest are kept.
    relation : Relation or None
        Why it is; None if a person chose it.
    """
    why = () if relation is None else (("relation", str(relation)),)
    kept = tuple(dict.fromkeys(among))[-_SEEN_LIMIT:]
    return ("digest", version.digest), *why, ("seen", " ".join(kept))


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of an instance's versions, the first first."""
    return sorted(rows, key=currency)
