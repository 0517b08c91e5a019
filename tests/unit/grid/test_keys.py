from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.nouns import Instance
from storage_node.grid import keys

DIGEST = "ab" * 32


def test_plain_uids_stand_as_they_are() -> None:
    instance = Instance("1.2.840.10008", "1.2.3", "1.2.3.04")
    assert keys.object_key(instance, DIGEST) == f"1.2.840.10008/1.2.3/1.2.3.04/{DIGEST}.dcm"
    assert keys.manifest_key(instance, DIGEST) == f"1.2.840.10008/1.2.3/1.2.3.04/{DIGEST}.json"
    assert keys.streamed_key(instance, "u1") == "1.2.840.10008/1.2.3/1.2.3.04/u1.dcm"
    assert keys.streamed_key(None, "u1") == "_streams/u1.dcm"


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("../../etc/passwd", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
        ("_facts", "%5Ffacts"),
        ("1.2.", "1%2E2%2E"),
        ("1..2", "1%2E%2E2"),
        ("1.2 ", "1%2E2%20"),
        ("1.2\n", "1%2E2%0A"),
        ("%2E", "%252E"),
        ("é", "%C3%A9"),
        ("\udce9", "%E9"),
        ("\u0661.\u0662", "%D9%A1%2E%D9%A2"),
    ],
)
def test_other_uids_are_escaped(uid: str, name: str) -> None:
    assert keys.file_name(uid) == name


def test_an_empty_uid_names_nothing() -> None:
    with pytest.raises(ValueError):
        keys.file_name("")


uids = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=300),
    st.from_regex(r"[0-9]+(\.[0-9]+){0,40}", fullmatch=True),
    st.text("./_%~0", min_size=1, max_size=90),
)


@given(uids)
@example("1" * 65)
@example("/" * 53)
@example("/" * 54)
def test_any_uid_is_one_safe_file_name(uid: str) -> None:
    name = keys.file_name(uid)
    assert re.fullmatch(r"[A-Za-z0-9%~.]{1,160}", name)
    assert name[0] not in "._"
    assert ".." not in name
    assert not name.endswith((".", ".meta"))


@given(uids, uids)
@example("/" * 60, "%2F" * 60)
@example("a" * 200, "a" * 201)
@example("1.2", "1%2E2")
def test_different_uids_have_different_names(one: str, other: str) -> None:
    assert (one == other) == (keys.file_name(one) == keys.file_name(other))
