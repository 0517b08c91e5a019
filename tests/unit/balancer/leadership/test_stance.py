"""What a balancer may do, and what it promises: each clause of the proof in `stance` by a case of its own."""

from __future__ import annotations

from balancer.leadership.known import Known
from balancer.leadership.promises import Reply, Wish
from balancer.leadership.stance import HOLDERS, MOVES, Role, Stance
from cluster.coordination.registry import Address

LEASE_S = 3.0
LISTED = Known({name: Address(name, 1) for name in ("lb1", "lb2", "lb3")}, 10)


def standby(name: str = "lb1", known: Known | None = LISTED) -> Stance:
    """A balancer that began long ago, at -100; now it is 0."""
    stance = Stance(name, lease_s=LEASE_S, now=-100.0, kept_s=LEASE_S)
    if known is not None:
        stance.learn(known)
    stance.settle(0.0)
    return stance


def leading(until: float = 3.0) -> Stance:
    stance = standby()
    stance.campaign(0.0)
    assert stance.won(until, 0.0)
    return stance


def wish(name: str = "lb2", *, holds: bool = False, known: Known = LISTED, lease_s: float = LEASE_S) -> Wish:
    return Wish(name, lease_s, holds, known)


def all_promise(*names: str) -> dict[str, Reply]:
    return {name: Reply(True) for name in names or ("lb2", "lb3")}


def test_every_role_can_be_left_and_reached() -> None:
    assert set(MOVES) == set(Role)
    assert {to for ends in MOVES.values() for to in ends} == set(Role) - {Role.STARTING}
    assert all(Role.STANDBY in ends for role, ends in MOVES.items() if role is not Role.STANDBY)


def test_a_lease_is_held_until_it_may_have_run_out_and_not_longer() -> None:
    stance = leading(until=3.0)
    assert stance.holds(2.999)
    assert not stance.holds(3.0)
    assert stance.role is Role.STANDBY


def test_a_renewal_that_is_learned_of_too_late_does_not_count() -> None:
    stance = leading(until=3.0)
    assert not stance.renewed(5.9, 3.1)
    assert not stance.holds(3.1)


def test_a_term_that_was_won_too_late_does_not_count() -> None:
    stance = standby()
    stance.campaign(0.0)
    assert not stance.won(3.0, 3.5)
    assert stance.role is Role.STANDBY


def test_who_holds_or_may_hold_promises_nothing() -> None:
    candidate, yielding, by_promises = standby(), leading(), leading()
    candidate.campaign(0.0)
    assert yielding.give(0.0)
    asking = by_promises.ask(0.0)
    assert asking is not None
    assert by_promises.count(asking, all_promise(), 0.0)
    those = (candidate, yielding, by_promises, leading())
    assert {stance.role for stance in those} == HOLDERS | {Role.CAMPAIGNING}
    for stance in those:
        assert not stance.asked(wish(holds=False), 1.0).promised
        assert not stance.asked(wish(holds=True), 1.0).promised


def test_who_has_promised_asks_for_nothing_until_it_is_over() -> None:
    stance = standby()
    assert stance.asked(wish(), 0.0).promised
    assert stance.hindrance(2.9) == "has promised lb2 not to take it"
    assert stance.ask(2.9) is None
    assert stance.hindrance(3.0) is None


def test_a_promise_is_given_to_one_and_again_to_the_same() -> None:
    stance = standby()
    assert stance.asked(wish("lb2"), 0.0).promised
    assert not stance.asked(wish("lb3"), 1.0).promised
    assert stance.asked(wish("lb2"), 2.0).promised
    assert stance.promised_to(4.9) == "lb2"
    assert stance.asked(wish("lb3"), 5.0).promised


def test_who_holds_is_promised_to_although_another_was_before() -> None:
    stance = standby()
    assert stance.asked(wish("lb2"), 0.0).promised
    assert stance.asked(wish("lb3", holds=True), 1.0).promised
    assert stance.promised_to(1.0) == "lb3"


def test_who_can_be_elected_by_the_store_promises_only_to_who_holds() -> None:
    """One that does not reach the store would bind it again and again, and nobody lead."""
    stance = standby()
    assert not stance.asked(wish("lb2"), 0.0, reaches_store=True).promised
    assert stance.asked(wish("lb2", holds=True), 0.0, reaches_store=True).promised
    assert not stance.asked(wish("lb2"), 1.0, reaches_store=True).promised  # nor again to the same
    assert standby().asked(wish("lb2"), 0.0).promised
    adding = Known({"lb2": None}, 10, pending={"lb1": None})
    cannot_be_elected = standby("lb1", adding)
    assert cannot_be_elected.asked(wish("lb2", known=adding), 0.0, reaches_store=True).promised


def test_a_process_that_begins_anew_waits_until_what_it_promised_is_over() -> None:
    stance = Stance("lb1", lease_s=LEASE_S, now=0.0, kept_s=LEASE_S)
    stance.learn(LISTED)
    assert not stance.asked(wish(), 2.9).promised
    assert stance.hindrance(2.9) == "is starting"
    assert stance.asked(wish(holds=True), 2.9).promised  # it holds now: nobody else can by an old promise
    stance = Stance("lb1", lease_s=LEASE_S, now=0.0, kept_s=LEASE_S)
    assert stance.hindrance(3.0) is None


def test_what_is_promised_is_written_down_before_for_the_next_process_may_have_a_shorter_lease() -> None:
    stance = Stance("lb1", lease_s=LEASE_S, now=-100.0, kept_s=LEASE_S - 1)
    stance.learn(LISTED)
    assert "has not written down yet" in stance.asked(wish(holds=True), 0.0).why
    stance.kept_s = LEASE_S
    assert stance.asked(wish(holds=True), 0.0).promised
    shorter = Stance("lb1", lease_s=LEASE_S - 1, now=0.0, kept_s=LEASE_S)
    assert shorter.hindrance(LEASE_S - 0.1) == "is starting"


def test_a_right_is_counted_from_before_the_others_were_asked() -> None:
    stance = standby()
    asking = stance.ask(0.0)
    assert asking is not None
    assert stance.count(asking, all_promise(), 0.4)
    assert stance.until == LEASE_S


def test_all_others_must_promise() -> None:
    for replies in ({"lb2": Reply(True)}, {**all_promise(), "lb3": Reply(False, "no")}):
        stance = standby()
        asking = stance.ask(0.0)
        assert asking is not None
        assert not stance.count(asking, replies, 0.1)
        assert stance.role is Role.STANDBY


def test_those_that_are_being_added_must_promise_too() -> None:
    stance = standby(known=LISTED.adding({"lb4": Address("lb4", 1)}))
    asking = stance.ask(0.0)
    assert asking is not None
    assert set(asking.asked) == {"lb2", "lb3", "lb4"}
    assert not stance.count(asking, all_promise(), 0.1)


def test_a_holder_that_is_not_promised_to_holds_until_its_time_is_over() -> None:
    stance = leading(until=3.0)
    asking = stance.ask(2.0)
    assert asking is not None
    assert stance.count(asking, {}, 2.1)
    assert stance.until == 3.0
    assert stance.role is Role.LEADING


def test_promises_prolong_a_right_and_answers_that_come_after_it_do_not() -> None:
    stance = leading(until=3.0)
    asking = stance.ask(2.0)
    assert asking is not None
    assert stance.count(asking, all_promise(), 2.1)
    assert stance.until == 5.0
    asking = stance.ask(4.9)
    assert asking is not None
    assert not stance.count(asking, all_promise(), 5.0)


def test_who_promises_drops_what_it_asks_for_itself() -> None:
    stance = standby("lb2")
    asking = stance.ask(0.0)
    assert asking is not None
    assert stance.asked(wish("lb1"), 0.1).promised
    assert not stance.count(asking, all_promise("lb1", "lb3"), 0.2)
    assert not stance.holds(0.2)


def test_of_those_who_ask_at_the_same_time_the_lower_name_goes_first() -> None:
    lower, higher = standby("lb1"), standby("lb2")
    assert lower.ask(0.0)
    assert higher.ask(0.0)
    assert not lower.asked(wish("lb2"), 0.1).promised
    assert higher.asked(wish("lb1"), 0.1).promised


def test_who_knows_an_older_list_is_told_the_later_one() -> None:
    older = Known({name: LISTED.links[name] for name in ("lb1", "lb2")}, 9)
    reply = standby("lb2").asked(wish("lb1", known=older), 0.0)
    assert not reply.promised
    assert reply.known == LISTED
    stance = standby("lb1", known=older)
    asking = stance.ask(0.0)
    assert asking is not None
    assert not stance.count(asking, {"lb2": reply}, 0.1)
    assert stance.known == LISTED


def test_who_knows_no_list_or_is_adding_to_it_promises_nothing() -> None:
    assert not standby(known=None).asked(wish(), 0.0).promised
    adding = standby(known=LISTED.adding({"lb4": None}))
    refused = adding.asked(wish(), 0.0)
    assert (refused.promised, refused.why) == (False, "knows of a balancer that is being added: lb4")
    assert adding.asked(wish(known=Known(LISTED.links, 11)), 0.0).promised  # that one can be no more


def test_nothing_is_promised_to_who_is_not_listed_or_by_who_is_not() -> None:
    assert not standby().asked(wish("lb9"), 0.0).promised
    without = Known(dict.fromkeys(("lb2", "lb3")), 11)
    assert not standby().asked(wish(known=without), 0.0).promised


def test_nothing_is_promised_for_longer_than_it_is_kept() -> None:
    reply = standby().asked(wish(lease_s=LEASE_S + 1), 0.0)
    assert not reply.promised
    assert "service.lease_s" in reply.why


def test_who_is_not_in_the_list_does_not_campaign() -> None:
    stance = standby("lb9")
    assert stance.hindrance(0.0) == "is not in the list of balancers yet: a leader adds it"
    assert stance.ask(0.0) is None


def test_a_lost_lease_lets_go_and_a_right_by_promises_goes_on() -> None:
    by_lease, by_promises = leading(), leading()
    asking = by_promises.ask(0.0)
    assert asking is not None
    assert by_promises.count(asking, all_promise(), 0.1)
    by_lease.lease_lost()
    by_promises.lease_lost()
    assert not by_lease.holds(0.2)
    assert by_promises.holds(0.2)


def test_who_gives_the_term_away_renews_nothing() -> None:
    stance = leading(until=3.0)
    asking = stance.ask(0.5)
    assert asking is not None
    assert stance.give(1.0)
    assert not stance.renewed(4.0, 1.0)
    assert stance.ask(1.0) is None
    stance.count(asking, all_promise(), 1.1)
    assert stance.until == 3.0
    assert stance.holds(2.9)
    assert not stance.holds(3.0)


def test_who_is_prepared_is_given_the_term_only_in_time_and_promises_to_the_giver_only() -> None:
    stance = standby()
    assert stance.prepare("lb2", 0.0, 12.0) is None
    assert not stance.asked(wish("lb3"), 1.0).promised
    assert stance.given(4.0, 1.0)
    late = standby()
    assert late.prepare("lb2", 0.0, 12.0) is None
    assert not late.given(15.0, 12.0)
    back = standby()
    assert back.prepare("lb2", 0.0, 12.0) is None
    assert back.asked(wish("lb2"), 1.0).promised
    assert not back.given(4.0, 1.1)


def test_who_is_prepared_stays_so_when_it_promises_a_giver_that_holds() -> None:
    """One whose renewal is late asks while it hands over; it renews nothing from when it gives the term."""
    stance = standby()
    assert stance.prepare("lb2", 0.0, 12.0) is None
    assert stance.asked(wish("lb2", holds=True), 1.0).promised
    assert stance.given(4.0, 1.1)


def test_who_has_promised_the_giver_can_be_given_the_term_and_others_cannot() -> None:
    for giver, expected in (("lb2", None), ("lb3", "has promised lb2 not to take it")):
        stance = standby()
        assert stance.asked(wish("lb2", holds=True), 0.0).promised
        assert stance.prepare(giver, 0.1, 12.0) == expected


def test_who_leads_by_promises_can_give_its_term_away_too() -> None:
    """A store that is slow for a moment makes it so while the other prepares."""
    stance = leading(until=3.0)
    asking = stance.ask(1.0)
    assert asking is not None
    assert stance.count(asking, all_promise(), 1.1)
    assert stance.give(1.2)
    assert stance.role is Role.YIELDING
    assert not stance.renewed(9.0, 1.3)
    assert stance.holds(3.9)
    assert not stance.holds(4.0)
