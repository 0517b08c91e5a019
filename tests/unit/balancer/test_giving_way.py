from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from balancer.giving_way import giving_way, origin


def test_the_oldest_of_the_source_with_most_gives_way() -> None:
    assert giving_way(["b", "a", "a", "b", "a"], 1) == [1]


def test_a_flood_takes_its_own_places_and_leaves_others_alone() -> None:
    flood = ["scanner", *["flood"] * 50, "archive", *["flood"] * 50]
    assert {flood[position] for position in giving_way(flood, 99)} == {"flood"}
    assert len(giving_way(flood, 99)) == 99


def test_where_each_source_has_one_the_oldest_of_all_gives_way() -> None:
    assert giving_way(["a", "b", "c"], 2) == [0, 1]


def test_no_more_than_there_are() -> None:
    assert giving_way([], 3) == []
    assert sorted(giving_way(["a", "b"], 3)) == [0, 1]


@given(st.lists(st.sampled_from("abcd")), st.integers(0, 20))
def test_nobody_is_left_with_more_than_one_that_gave_way(origins: list[str], count: int) -> None:
    chosen = giving_way(origins, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(origins))
    before, gone = Counter(origins), Counter(origins[position] for position in chosen)
    most = max((before[name] - gone[name] for name in before), default=0)
    for name in gone:
        assert before[name] - gone[name] >= most - 1
        ours = [position for position, where in enumerate(origins) if where == name]
        assert sorted(p for p in chosen if origins[p] == name) == ours[: gone[name]]


def test_a_network_of_ipv6_is_one_source() -> None:
    assert origin(ip_address("2001:db8::1")) == origin(ip_address("2001:db8::ffff:1"))
    assert origin(ip_address("2001:db8::1")) != origin(ip_address("2001:db8:0:1::1"))
    assert origin(ip_address("10.0.0.1")) != origin(ip_address("10.0.0.2"))
