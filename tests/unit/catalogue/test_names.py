"""Names are compared without case and accents, by their component groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_node.catalogue.attributes import ATTRIBUTES
from storage_node.catalogue.keys import Like, OneOf, matches
from storage_node.catalogue.names import folded, parts, sounds_like, words

NAME = ATTRIBUTES[0x00100010]
_WORD = st.text("abcé山", min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DOE^Jane^^", "doe^jane"),
        (" Doe ^ Jane ", "doe^jane"),
        ("Müller^Jürgen", "muller^jurgen"),
        ("Straße", "strasse"),
        ("Yamada^Tarou^^=山田^太郎^^=", "yamada^tarou=山田^太郎"),
        ("=山田^太郎", "=山田^太郎"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("김^철수", "김^철수"),
    ],
)
def test_a_name_is_folded(name: str, expected: str) -> None:
    assert folded(name) == expected


def test_a_mark_that_makes_another_letter_is_no_accent() -> None:
    assert folded("が") != folded("か")
    assert len(folded("김")) == 1, "a syllable is one character for a wild card"


@given(st.text(max_size=12))
def test_folding_twice_changes_nothing(name: str) -> None:
    assert folded(folded(name)) == folded(name)


@pytest.mark.parametrize(
    ("key", "is_found"),
    [
        ("yamada^tarou", True),
        ("山田^太郎", True),
        ("やまだ^たろう", True),
        ("山田", False),
        ("=山田^太郎", True),
        ("yamada^tarou==やまだ^たろう", True),
        ("山田^太郎=yamada^tarou", False),
        ("=yamada^tarou", False),
    ],
)
def test_a_key_of_one_group_is_meant_in_any_and_others_each_in_its_own(key: str, is_found: bool) -> None:
    held = folded("Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert matches(OneOf(NAME, (folded(key),)), held) is is_found
    assert matches(Like(NAME, (folded(key).replace("山", "*"),)), held) is is_found


@pytest.mark.parametrize(
    ("asked", "is_found"),
    [
        ("mueller", True),
        ("Muller", True),
        ("jurg", True),
        ("Jürgen Müller", True),
        ("mull jur", True),
        ("miller", True),
        ("mill", False),
        ("mullre", False),
        ("hans", False),
        ("an", False),
    ],
)
def test_a_fuzzy_name_matches_by_beginnings_of_words_and_with_one_error(asked: str, is_found: bool) -> None:
    assert sounds_like(words(folded(asked)), folded("Müller^Jürgen^Maria")) is is_found


@given(_WORD, _WORD)
def test_what_a_fuzzy_word_matches_has_one_of_its_parts(word: str, held: str) -> None:
    word, held = folded(word), folded(held)
    if sounds_like((word,), held):
        assert any(part in held for part in parts(word))


def test_a_long_name_is_folded_in_time_that_grows_with_its_length() -> None:
    assert folded(f"é{' ' * 200_000}x^ ^") == f"e{' ' * 200_000}x"
