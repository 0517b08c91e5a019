"""A site's circuit: each transition, and what holds after any sequence of events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage_node.grid.health import (
    WRITE_FAULTS_LIMIT,
    WRITE_TRIAL_INTERVAL_S,
    Circuit,
    SiteHealth,
    SiteState,
    Trust,
)

LOW = 1000 << 20
SINCE = datetime(2026, 3, 1, tzinfo=UTC)


def circuit(*, up: bool = True, filling: bool = False) -> Circuit:
    made = Circuit(room_low_bytes=LOW, filling=filling)
    if up:
        probe(made)
    return made


def probe(circuit: Circuit, *, quick: bool = True) -> None:
    circuit.probed(circuit.probe_began(), quick=quick)


def circuit_state(circuit: Circuit) -> SiteState:
    """Return its state now: to mypy a property stays what it was found to be."""
    return circuit.state


def wedge(circuit: Circuit, at_s: float = 0.0) -> None:
    for number in range(WRITE_FAULTS_LIMIT):
        circuit.not_written(f"key-{number}", "500", at_s)


def test_a_site_is_down_until_a_probe_found_it_well() -> None:
    unknown = circuit(up=False)
    assert (unknown.state, unknown.why) == (SiteState.DOWN, "not probed yet")
    assert not unknown.may_write(0)
    probe(unknown)
    assert (unknown.state, unknown.why) == (SiteState.UP, "")
    assert unknown.may_write(0)


def test_a_failed_call_takes_it_down_and_one_probe_brings_it_back() -> None:
    site = circuit()
    site.failed("no answer within 10 s")
    assert (site.state, site.why) == (SiteState.DOWN, "no answer within 10 s")
    probe(site)
    assert circuit_state(site) is SiteState.UP


def test_a_probe_that_began_before_a_failure_proves_nothing() -> None:
    site = circuit()
    began = site.probe_began()
    site.failed("reset")
    site.probed(began, quick=True)
    assert site.state is SiteState.DOWN


def test_a_site_that_fails_again_after_each_probe_is_tried_more_and_more_rarely() -> None:
    site = circuit()
    needed = []
    for _ in range(7):
        site.failed("reset")
        probes = 0
        while not site.is_up:
            probe(site)
            probes += 1
        needed.append(probes)
    assert needed == [1, 1, 2, 4, 8, 8, 8]


def test_what_was_long_ago_is_forgotten() -> None:
    site = circuit()
    for _ in range(5):
        site.failed("reset")
        for _ in range(30):
            probe(site)
    site.failed("reset")
    probe(site)
    assert site.is_up


def test_failures_while_it_is_down_are_one_lapse() -> None:
    site = circuit()
    for _ in range(50):
        site.failed("refused")
    probe(site)
    assert site.is_up


def test_a_filling_site_takes_writes_and_has_no_vote() -> None:
    site = circuit(filling=True)
    assert site.state is SiteState.FILLING
    assert site.may_write(0)
    assert not SiteHealth(site.state, site.why, SINCE, site.filling).votes
    site.filling = False
    assert circuit_state(site) is SiteState.UP


@pytest.mark.parametrize("state", list(SiteState))
@pytest.mark.parametrize("filling", [False, True])
def test_a_site_being_filled_never_votes_whatever_else_it_is(state: SiteState, filling: bool) -> None:
    health = SiteHealth(state, "", SINCE, filling)
    assert health.votes == (state is not SiteState.DOWN and not filling)
    assert health.up == (state is not SiteState.DOWN)
    assert health.takes_writes == (state in (SiteState.UP, SiteState.FILLING))
    assert health.to_json()["state"] == state.value


def test_it_is_full_below_the_mark_and_until_it_has_half_as_much_again() -> None:
    site = circuit()
    for free, state in (
        (LOW, SiteState.UP),
        (LOW - 1, SiteState.FULL),
        (LOW, SiteState.FULL),
        (LOW * 3 // 2 - 1, SiteState.FULL),
        (LOW * 3 // 2, SiteState.UP),
        (LOW, SiteState.UP),
    ):
        site.has_room(free)
        assert site.state is state, free
        assert site.may_write(0) is (state is SiteState.UP)
    site.has_room(5 << 20)
    assert site.why == "5 MiB of room left, 1000 MiB wanted (free_space_low_bytes)"
    site.has_room(None)
    assert circuit_state(site) is SiteState.UP


def test_no_write_gets_through_to_a_site_without_room_not_even_to_try() -> None:
    site = circuit()
    site.has_room(0)
    site.no_room("full", 0)
    assert not site.may_write(1e9)


def test_a_write_that_finds_no_room_stops_writes_and_later_one_is_let_through() -> None:
    site = circuit()
    site.no_room("no space left", 100)
    assert (site.state, site.why) == (SiteState.FULL, "no space left")
    assert not site.may_write(100 + WRITE_TRIAL_INTERVAL_S - 0.1)
    assert site.may_write(100 + WRITE_TRIAL_INTERVAL_S)
    site.will_write(100 + WRITE_TRIAL_INTERVAL_S)
    assert not site.may_write(100 + WRITE_TRIAL_INTERVAL_S)
    site.wrote()
    assert circuit_state(site) is SiteState.UP
    assert site.may_write(100 + WRITE_TRIAL_INTERVAL_S)


def test_several_different_objects_that_cannot_be_written_stop_writes() -> None:
    site = circuit()
    wedge(site)
    assert site.state is SiteState.READ_ONLY
    assert site.why == "4 objects in a row could not be written: 500"
    assert not site.may_write(1)


def test_a_trial_that_fails_stops_writes_for_as_long_again() -> None:
    site = circuit()
    wedge(site)
    at_s = WRITE_TRIAL_INTERVAL_S
    assert site.may_write(at_s)
    site.will_write(at_s)
    site.not_written("another", "500", at_s + 3)
    assert not site.may_write(at_s + WRITE_TRIAL_INTERVAL_S)
    assert site.may_write(at_s + 3 + WRITE_TRIAL_INTERVAL_S)


def test_a_trial_of_which_nothing_is_heard_is_followed_by_another() -> None:
    site = circuit()
    wedge(site)
    assert site.may_write(WRITE_TRIAL_INTERVAL_S)
    site.will_write(WRITE_TRIAL_INTERVAL_S)
    assert not site.may_write(2 * WRITE_TRIAL_INTERVAL_S - 0.1)
    assert site.may_write(2 * WRITE_TRIAL_INTERVAL_S)


def test_who_asks_and_does_not_write_takes_nobodys_turn_to_try() -> None:
    site = circuit()
    wedge(site)
    assert site.may_write(WRITE_TRIAL_INTERVAL_S)
    assert site.may_write(WRITE_TRIAL_INTERVAL_S)


def test_one_wedged_key_says_nothing_of_the_site() -> None:
    site = circuit()
    for _ in range(100):
        site.not_written("wedged", "500", 0)
    assert circuit_state(site) is SiteState.UP


def test_a_success_between_says_that_the_site_can_be_written() -> None:
    site = circuit()
    for number in range(100):
        site.not_written(f"key-{number}", "500", 0)
        if number % (WRITE_FAULTS_LIMIT - 1) == 0:
            site.wrote()
    assert circuit_state(site) is SiteState.UP


def test_a_slow_site_is_asked_last_until_a_quick_probe() -> None:
    site = circuit()
    seen = [site.is_quick]
    site.was_slow()
    seen.append(site.is_quick)
    for quick in (False, True):
        probe(site, quick=quick)
        seen.append(site.is_quick)
    assert seen == [True, False, False, True]
    assert site.is_up


def test_trust_is_there_at_first() -> None:
    assert Trust().holds


class Machine(RuleBasedStateMachine):
    """Any events in any order, beside the few words that say what the site must then be."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(room_low_bytes=LOW, filling=False)
        self.at_s = 0.0
        self.probed_since_failure = False
        self.lacks_room = False
        self.refused_for_room = False
        self.unwritten: set[str] = set()
        self.tried_at_s: float | None = None

    @rule()
    def fails(self) -> None:
        self.circuit.failed("gone")
        self.probed_since_failure = False

    @rule(quick=st.booleans())
    def is_probed(self, quick: bool) -> None:
        probe(self.circuit, quick=quick)
        self.probed_since_failure = True

    @rule()
    def is_probed_across_a_failure(self) -> None:
        began = self.circuit.probe_began()
        self.fails()
        self.circuit.probed(began, quick=True)

    @rule()
    def is_written(self) -> None:
        self.circuit.wrote()
        self.unwritten.clear()
        self.refused_for_room = False
        self.tried_at_s = None

    @rule(key=st.integers(0, 6).map(str))
    def is_not_written(self, key: str) -> None:
        self.circuit.not_written(key, "500", self.at_s)
        self.unwritten.add(key)

    @rule()
    def has_no_room_for_a_write(self) -> None:
        self.circuit.no_room("no space left", self.at_s)
        self.refused_for_room = True

    @rule(free_bytes=st.sampled_from([0, LOW - 1, LOW, LOW * 3 // 2 - 1, LOW * 3 // 2]))
    def is_asked_for_room(self, free_bytes: int) -> None:
        self.circuit.has_room(free_bytes)
        self.lacks_room = free_bytes < (LOW * 3 // 2 if self.lacks_room else LOW)

    @rule(passes_s=st.integers(1, 7))
    def time_passes(self, passes_s: int) -> None:
        self.at_s += passes_s

    @rule()
    def is_to_be_written(self) -> None:
        writes_fail = self.refused_for_room or self.circuit.state is SiteState.READ_ONLY
        if not self.circuit.may_write(self.at_s):
            assert writes_fail or self.lacks_room or not self.circuit.is_up
            return
        assert self.circuit.is_up
        assert not self.lacks_room
        self.circuit.will_write(self.at_s)
        if writes_fail:
            assert self.tried_at_s is None or self.at_s - self.tried_at_s >= WRITE_TRIAL_INTERVAL_S
            self.tried_at_s = self.at_s

    @invariant()
    def is_what_the_events_say(self) -> None:
        state = self.circuit.state
        assert bool(self.circuit.why) == (state is not SiteState.UP)
        if not self.circuit.is_up:
            assert state is SiteState.DOWN
            return
        assert self.probed_since_failure
        assert (state is SiteState.FULL) == (self.lacks_room or self.refused_for_room)
        if len(self.unwritten) < WRITE_FAULTS_LIMIT:
            assert state is not SiteState.READ_ONLY
        elif state is not SiteState.FULL:
            assert state is SiteState.READ_ONLY


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
