"""What can be changed in a catalogue, as values: many of them share a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cluster.nouns import Debt, Fact, Instance
from storage_node.catalogue.protocol import Row


@dataclass(frozen=True, slots=True)
class AddRow:
    """See `Catalogue.add`."""

    row: Row
    debts: Sequence[Debt]
    verified_at: str


@dataclass(frozen=True, slots=True)
class AddFact:
    """See `Catalogue.decide`."""

    fact: Fact
    debts: Sequence[Debt]


@dataclass(frozen=True, slots=True)
class Owe:
    """See `Catalogue.owe`."""

    debts: Sequence[Debt]


@dataclass(frozen=True, slots=True)
class Settle:
    """See `Catalogue.settle`."""

    site: str
    held: Row


@dataclass(frozen=True, slots=True)
class Forgive:
    """See `Catalogue.forgive`."""

    debt: Debt


@dataclass(frozen=True, slots=True)
class Verify:
    """See `Catalogue.verified`."""

    copies: Sequence[tuple[Instance, str]]
    at: str


Change: TypeAlias = AddRow | AddFact | Owe | Settle | Forgive | Verify
