"""A read's patience follows what reads take, between its bounds."""

from __future__ import annotations

import pytest

from storage_node.grid.patience import LEAST_S, TIMES, UNHURRIED_BYTES, Patience


def test_before_anything_is_known_it_is_the_limit() -> None:
    assert Patience(0.25).for_s(1) == 0.25


def test_where_reads_are_quick_it_is_short_and_never_shorter_than_the_least() -> None:
    patience = Patience(0.25)
    patience.took(0.015, 1000)
    assert patience.for_s(1000) == pytest.approx(TIMES * 0.015)
    for _ in range(1000):
        patience.took(0.0001, 1000)
    assert patience.for_s(1000) == LEAST_S


def test_where_all_reads_become_slow_it_is_the_limit_after_a_few() -> None:
    patience = Patience(0.25)
    patience.took(0.003, 1000)
    for _ in range(3):
        patience.took(0.1, 1000)
    assert patience.for_s(1000) == 0.25


def test_a_large_piece_is_waited_for_as_long_as_it_takes() -> None:
    patience = Patience(0.25)
    patience.took(0.08, 8 * UNHURRIED_BYTES)
    assert patience.for_s(4 * UNHURRIED_BYTES) == pytest.approx(4 * TIMES * 0.01)
    assert Patience(0.25).for_s(2 * UNHURRIED_BYTES) == 0.5
