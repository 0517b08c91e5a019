"""What may not be deleted yet: an instance is kept with its series and its study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from cluster.nouns import FactKind, Topic
from storage_node.catalogue.views import ruling

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance


def retention(instance: Instance, facts: Mapping[Instance, Sequence[Fact]], on: date) -> Fact | None:
    """Return the fact by which an instance is kept on a day: of several, the one that lasts longest.

    Parameters
    ----------
    instance : Instance
    facts : mapping of Instance to sequence of Fact
        What is known about it, its series and its study, by subject.
    on : date
        In UTC.
    """
    held = [ruling(facts.get(subject, ()), Topic.RETENTION) for subject in (instance, *instance.above)]
    keeping = [
        fact for fact in held if fact is not None and fact.kind is FactKind.RETAINED and on < until(fact)
    ]
    return max(keeping, key=until, default=None)


def until(fact: Fact) -> date:
    """Return the first day on which what is retained may be deleted; one that cannot be read never comes."""
    try:
        return date.fromisoformat(fact.detail("until") or "")
    except ValueError:
        return date.max
