"""Which fact is needed, from what the sites know."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.nouns import Fact, FactKind, Instance, Provenance, Topic
from cluster.settings import Resend
from storage_node.catalogue.protocol import Entry
from storage_node.catalogue.views import is_hidden, purged, ruling, rulings
from storage_node.grid.facts import STORED_AGAIN, Gone, decision, order_above_purged, purge, to_be_shown

INSTANCE = Instance("1", "1.2", "1.2.3")
AT = datetime(2026, 3, 1, tzinfo=UTC)
DELETED, REVIVED = FactKind.DELETED, FactKind.REVIVED

KNOWN = st.builds(
    Fact,
    instance=st.just(INSTANCE),
    epoch=st.integers(1, 4),
    kind=st.sampled_from(FactKind),
    decided_at=st.just(AT),
    decided_by=st.sampled_from(["ann", "bob"]),
    reason=st.just(""),
)
SITES = st.dictionaries(st.sampled_from("abc"), st.lists(KNOWN, max_size=3), min_size=2)


def fact(epoch: int, kind: FactKind, by: str = "ann") -> Fact:
    return Fact(INSTANCE, epoch, kind, AT, by, "")


def decide(known: list[list[Fact]], kind: FactKind) -> Fact:
    return decision(INSTANCE, known, kind, by="eve", at=AT, reason="why")


def test_the_first_decision_has_the_first_epoch() -> None:
    assert decide([[], []], DELETED) == Fact(INSTANCE, 1, DELETED, AT, "eve", "why")


def test_a_decision_has_an_epoch_above_all_that_any_site_knows() -> None:
    known = [[fact(1, DELETED)], [fact(1, DELETED), fact(2, REVIVED)]]
    assert decide(known, DELETED).epoch == 3


def test_what_is_so_already_is_written_again_as_it_was() -> None:
    known = [[fact(1, DELETED)], []]
    assert decide(known, DELETED) == fact(1, DELETED)


@given(SITES, st.sampled_from(FactKind))
def test_a_decision_holds_over_whatever_was_known(sites: dict[str, list[Fact]], kind: FactKind) -> None:
    everything = [known for facts in sites.values() for known in facts]
    before = ruling(everything, kind.topic)
    if before is not None and before.kind is FactKind.PURGED:
        return
    decided = decide(list(sites.values()), kind)
    held = ruling([*everything, decided], kind.topic)
    assert held is not None
    assert (held.kind, held.epoch) == (kind, decided.epoch)


def test_what_was_purged_is_not_revived_by_a_decision_and_is_as_good_as_deleted() -> None:
    known = [[fact(2, FactKind.PURGED), fact(1, DELETED)], []]
    with pytest.raises(Gone, match=r"instance 1\.2\.3 was purged"):
        decide(known, REVIVED)
    assert decide(known, DELETED) == fact(2, FactKind.PURGED)
    assert decide([[fact(1, DELETED), fact(1, FactKind.PURGED)]], REVIVED).epoch == 2, "no purge held"


@given(st.lists(KNOWN))
def test_what_was_deleted_or_rejected_is_hidden_until_it_is_taken_back(facts: list[Fact]) -> None:
    deletion, rejection = ruling(facts), ruling(facts, Topic.REJECTION)
    deleted = deletion is not None and deletion.kind is not REVIVED
    rejected = rejection is not None and rejection.kind is FactKind.REJECTED
    assert is_hidden(facts) == (deleted or rejected)
    assert is_hidden(rulings(facts)) == is_hidden(facts)


def test_at_the_same_time_a_deletion_holds_over_a_revival_and_that_over_a_purge() -> None:
    purged, revived, deleted = (fact(2, kind) for kind in (FactKind.PURGED, REVIVED, DELETED))
    assert ruling([purged, revived]) == revived
    assert ruling([purged, revived, deleted]) == deleted


def show(met: dict[str, list[Fact]]) -> Fact | None:
    return to_be_shown("v1", met, by="CT1", at=AT)


def test_nothing_is_decided_where_nothing_was() -> None:
    assert show({"a": [], "b": []}) is None


def test_a_deletion_that_one_site_knows_is_answered_by_a_revival() -> None:
    assert show({"a": [], "b": [fact(4, DELETED)]}) == Fact(INSTANCE, 5, REVIVED, AT, "CT1", STORED_AGAIN)


def test_a_revival_that_all_know_is_enough() -> None:
    facts = [fact(2, REVIVED), fact(1, DELETED)]
    assert show({"a": facts, "b": facts}) is None


def test_a_revival_that_some_lack_is_written_again() -> None:
    assert show({"a": [fact(2, REVIVED), fact(1, DELETED)], "b": [fact(1, DELETED)]}) == fact(2, REVIVED)


@given(SITES)
def test_an_instance_is_shown_by_each_site_that_knows_what_was_decided(met: dict[str, list[Fact]]) -> None:
    needed = show(met)
    for facts in met.values():
        shown = ruling([*facts, *([needed] if needed else [])])
        assert shown is None or shown.kind is REVIVED


def test_what_is_rejected_stays_so_when_it_is_sent_again() -> None:
    rejected = fact(1, FactKind.REJECTED)
    assert show({"a": [rejected], "b": [rejected]}) is None
    needed = show({"a": [rejected, fact(1, DELETED)], "b": []})
    assert needed is not None
    assert is_hidden([rejected, fact(1, DELETED), needed])


def entry(digest: str, order: int) -> Entry:
    return Entry(INSTANCE, digest, "key", 1, order, Provenance(AT, "CT1", "", ""), AT, False)


def gone(epoch: int, *digests: str) -> Fact:
    entries = [entry(digest, order) for order, digest in enumerate(digests, 1)]
    return purge(fact(epoch - 1, DELETED), entries, at=AT, reason="")


def came_back(epoch: int, digest: str, kind: FactKind = REVIVED) -> Fact:
    return replace(fact(epoch, kind), details=(("digest", digest),))


def test_a_purge_takes_the_versions_that_it_names_and_none_that_came_back_since() -> None:
    facts = [fact(1, DELETED), gone(2, "v1", "v2")]
    assert purged(facts) == {"v1", "v2"}
    facts += [came_back(3, "v1")]
    assert purged(facts) == {"v2"}
    facts += [came_back(3, "v2")]
    assert purged(facts) == frozenset(), "two came back at the same time"
    facts += [fact(4, DELETED), gone(5, "v1")]
    assert purged(facts) == {"v1"}


def test_a_purge_beside_another_decision_takes_nothing_and_one_beside_another_purge_both() -> None:
    assert purged([fact(1, DELETED), gone(2, "v1"), fact(2, REVIVED)]) == frozenset()
    assert purged([fact(1, DELETED), gone(2, "v1"), gone(2, "v1", "v2"), fact(3, REVIVED)]) == {"v1", "v2"}


def test_what_comes_back_after_a_purge_is_named_and_comes_before_what_is_gone() -> None:
    met = {"a": [gone(2, "v1", "v2"), fact(1, DELETED)], "b": [fact(1, DELETED)]}
    assert order_above_purged(met, "v1") == 3
    assert order_above_purged(met, "v3") is None
    assert show(met) == replace(came_back(3, "v1"), decided_by="CT1", reason=STORED_AGAIN)


def test_that_it_came_back_is_said_until_each_site_knows() -> None:
    known = [came_back(3, "v1"), gone(2, "v1"), fact(1, DELETED)]
    assert show({"a": known, "b": known}) is None
    assert show({"a": known, "b": known[1:]}) == replace(
        came_back(4, "v1"), decided_by="CT1", reason=STORED_AGAIN
    )


def keep(*facts: Fact) -> Fact | None:
    return to_be_shown("v1", {"a": facts, "b": facts}, by="CT1", at=AT, resend=Resend.STAYS_DELETED)


def test_what_is_to_stay_deleted_does_and_is_deleted_anew_where_it_was_purged() -> None:
    assert keep(fact(1, DELETED)) is None
    again = keep(fact(1, DELETED), gone(2, "v1"))
    assert again == replace(came_back(3, "v1", DELETED), decided_by="CT1", reason=STORED_AGAIN)
    other = keep(fact(1, DELETED), gone(2, "v2"))
    assert other is not None
    assert (other.epoch, other.kind, other.details) == (3, DELETED, ())
    assert keep(fact(1, DELETED), fact(2, REVIVED)) is None, "somebody took the deletion back"
