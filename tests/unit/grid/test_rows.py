from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cluster.nouns import Instance, Provenance, Version
from storage_node.catalogue.protocol import Row
from storage_node.grid import rows

START = datetime(2026, 3, 1, tzinfo=UTC)


def row(digest: str, order: int, minute: int) -> Row:
    provenance = Provenance(START + timedelta(minutes=minute), "A", "B", "h:1")
    return Row(Version(Instance("1", "2", "3"), digest, digest, 1, 0, "1", "1"), provenance, b"", (), order)


some_rows = st.lists(st.builds(row, st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=4)


@given(st.lists(some_rows, max_size=4), st.randoms())
def test_the_order_of_the_answers_does_not_matter(answers: list[list[Row]], random: object) -> None:
    shuffled = sorted(answers, key=repr)
    assert rows.merge(answers) == rows.merge(shuffled) == rows.merge([*answers, rows.merge(answers)])


def test_versions_merge_to_the_earlier_provenance_and_the_higher_order() -> None:
    assert rows.merge([[row("a", 1, 5)], [row("a", 2, 7)]]) == (row("a", 2, 5),)


def test_the_current_version_comes_first() -> None:
    merged = rows.merge([[row("a", 1, 9), row("b", 2, 0)], [row("c", 1, 9)]])
    assert [found.version.digest for found in merged] == ["b", "c", "a"]


def test_the_chosen_version_comes_before_the_newest() -> None:
    answers = [[row("a", 1, 9), row("b", 2, 0), row("c", 3, 0)]]
    assert [found.version.digest for found in rows.merge(answers, "a")] == ["a", "c", "b"]
    assert rows.merge(answers, "none of them") == rows.merge(answers)
