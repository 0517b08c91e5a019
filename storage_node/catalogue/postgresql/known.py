"""What is known of an instance, before some changes and after them: all that a catalogue keeps follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.nouns import Fact, Instance, Provenance
from storage_node.catalogue.protocol import Met, Row
from storage_node.catalogue.views import (
    authority,
    chosen,
    currency,
    fact_fingerprint,
    fingerprint,
    is_hidden,
    precedence,
    rank,
    row_fingerprint,
    rulings,
)


@dataclass(frozen=True, slots=True)
class Held:
    """A version of which there is a row."""

    row: Row
    verified_at: str


class Known:
    """The rows and the facts of one instance, or the facts of another subject; and what follows of them.

    Parameters
    ----------
    instance : Instance
    versions : dict of str to Held
        By digest.
    facts : tuple of Fact
    """

    __slots__ = ("facts", "instance", "versions")

    def __init__(
        self, instance: Instance, versions: dict[str, Held] | None = None, facts: tuple[Fact, ...] = ()
    ) -> None:
        self.instance = instance
        self.versions = versions or {}
        self.facts = facts

    def copy(self) -> Known:
        """Return what is to change while this stays as it is."""
        return Known(self.instance, dict(self.versions), self.facts)

    def add(self, row: Row, verified_at: str) -> Met:
        """Add a row, or merge it into the one that is there; return what it met."""
        digest = row.version.digest
        there = self.versions.get(digest)
        if there is None:
            order = row.order or 1 + max((held.row.order for held in self.versions.values()), default=0)
            self.versions[digest] = Held(replace(row, order=order), verified_at)
            return Met(order, row.version.key, self.ruled())
        merged = Row(
            row.version if verified_at >= there.verified_at else there.row.version,
            Provenance.merge(there.row.provenance, row.provenance),
            there.row.header,
            there.row.flags,
            max(there.row.order, row.order),
        )
        self.versions[digest] = Held(merged, max(there.verified_at, verified_at))
        return Met(merged.order, merged.version.key, self.ruled())

    def decide(self, fact: Fact) -> None:
        """Add a fact that may be there."""
        if fact not in self.facts:
            self.facts = (*self.facts, fact)

    def ruled(self) -> tuple[Fact, ...]:
        """Return the facts; of each topic the one that holds first."""
        return tuple(sorted(self.facts, key=authority, reverse=True))

    @property
    def hidden(self) -> bool:
        """Whether it is in no answer, as far as is known here."""
        return bool(self.facts) and is_hidden(self.facts)

    @property
    def holding(self) -> tuple[Fact, ...]:
        """The facts that hold, one for each topic."""
        return rulings(self.facts)

    @property
    def current(self) -> Row | None:
        """The row of the current version."""
        if len(self.versions) < 2:
            return next((held.row for held in self.versions.values()), None)
        choice = chosen(self.facts)
        return max((held.row for held in self.versions.values()), key=lambda row: currency(row, choice))

    @property
    def is_shown(self) -> bool:
        """Whether there is something to be in answers, and it is."""
        return bool(self.versions) and not self.hidden

    @property
    def shown_class(self) -> str | None:
        """SOP class of the current version, if it is in answers."""
        current = self.current if self.is_shown else None
        return None if current is None else current.version.sop_class_uid

    @property
    def of_view(self) -> int:
        """What it gives to the fingerprint of its series (`views.fingerprint`)."""
        return fingerprint(self.instance, hidden=self.hidden) if self.versions else 0

    @property
    def of_summary(self) -> int:
        """What it gives to the fingerprint of its study's summary."""
        summary = 0
        for digest, held in self.versions.items():
            summary ^= row_fingerprint(self.instance, digest, held.row.order, held.row.provenance)
        for fact in self.facts:
            summary ^= fact_fingerprint(fact)
        return summary

    def rank_of(self, row: Row) -> str:
        """Return by what a version stands for the entities above it."""
        return rank(precedence(row.provenance, row.version.digest), hidden=self.hidden)

    def changed_since(self, before: Known) -> Sequence[Row]:
        """Return the rows whose rank is another, or that are new."""
        return [
            held.row
            for digest, held in self.versions.items()
            if (was := before.versions.get(digest)) is None
            or before.rank_of(was.row) != self.rank_of(held.row)
        ]
