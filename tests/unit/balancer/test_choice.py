from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from balancer.choice import Candidate, choose

candidates = st.lists(
    st.builds(
        Candidate,
        st.text(max_size=3),
        associations=st.integers(0, 4),
        capacity=st.integers(0, 4),
        weight=st.integers(1, 3),
        turn=st.floats(0, 3),
        in_pool=st.booleans(),
        failing=st.booleans(),
        draining=st.booleans(),
        full=st.booleans(),
    ),
    unique_by=lambda candidate: candidate.name,
    max_size=8,
)
randoms = st.integers().map(Random)


@given(candidates, randoms)
def test_only_who_has_room_is_chosen_and_somebody_is_when_anybody_has(
    found: list[Candidate], random: Random
) -> None:
    chosen = choose(found, random)
    able = [c for c in found if not c.draining and not c.full and not 0 < c.capacity <= c.associations]
    assert (chosen in able) if able else (chosen is None)


@given(candidates, randoms)
def test_one_that_fails_is_taken_only_if_there_is_no_other(found: list[Candidate], random: Random) -> None:
    chosen = choose(found, random)
    if chosen is not None and chosen.failing:
        assert all(candidate.failing for candidate in found if candidate.has_room)


@given(candidates, randoms)
def test_one_outside_the_pool_is_taken_only_if_none_of_it_can(found: list[Candidate], random: Random) -> None:
    chosen = choose(found, random)
    if chosen is not None and not chosen.in_pool:
        assert not any(c.in_pool and c.has_room and c.failing == chosen.failing for c in found)


@given(candidates, randoms)
def test_of_two_equals_the_less_busy_is_chosen(found: list[Candidate], random: Random) -> None:
    pair = [
        replace(c, in_pool=True, failing=False, draining=False, full=False, capacity=0) for c in found[:2]
    ]
    chosen = choose(pair, random)
    if chosen is not None:
        assert chosen.load == min(candidate.load for candidate in pair)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8, unique=True), randoms)
def test_the_busiest_of_several_is_never_chosen(busy: list[int], random: Random) -> None:
    found = [Candidate(str(number), associations=number) for number in busy]
    chosen = choose(found, random)
    assert chosen is not None
    assert chosen.associations < max(busy)


def test_each_but_the_busiest_has_its_chance() -> None:
    random = Random(1)
    found = [Candidate(str(number), associations=number) for number in range(5)]
    drawn = Counter(chosen.name for _ in range(1000) if (chosen := choose(found, random)))
    assert set(drawn) == {"0", "1", "2", "3"}
    assert drawn["0"] > drawn["1"] > drawn["2"] > drawn["3"]


def test_associations_that_stay_are_spread_by_weight() -> None:
    random = Random(1)
    weights = {"a": 1, "b": 1, "c": 2, "d": 4}
    count: Counter[str] = Counter()
    for _ in range(800):
        found = [Candidate(name, associations=count[name], weight=weights[name]) for name in weights]
        chosen = choose(found, random)
        assert chosen is not None
        count[chosen.name] += 1
    for name, weight in weights.items():
        assert abs(count[name] - 100 * weight) <= 5


def test_equals_take_turns() -> None:
    found = [Candidate("a", turn=2.0), Candidate("b", turn=1.0)]
    chosen = choose(found, Random(1))
    assert chosen is found[1]
