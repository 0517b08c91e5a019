from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.settings import loads, shared
from deploy.settings_toml import edited

TEXT = """# Ours, since 2020.
data_folder = "/srv"  # the big disk

[dicom]
ae_title = "OURS"
# agreed with IT
port = 104

# Not more, the host is small.
[limits]
associations = 5  # few

# Radiology
[[destinations]]  # the first
ae_title = "X"
host = "x"
port = 1

# Surgery
[[destinations]]
ae_title = "Y"
host = "y"
port = 2

[http]
port = 8000
"""
X: dict[str, object] = {"ae_title": "X", "host": "x", "port": 1}
Y: dict[str, object] = {"ae_title": "Y", "host": "y", "port": 2}
Z: dict[str, object] = {"ae_title": "Z", "host": "z", "port": 3}
ROUTE: dict[str, object] = {"calling_ae": "CT", "workers": {"site": "a"}, "only": True}


def changed(text: str, after: Mapping[str, object]) -> str:
    """Edit a file, and look whether it then says that, and of the rest what it said before."""
    before = tomllib.loads(text)
    new = edited(text, shared.document(loads(text)), after)
    assert shared.document(loads(new)) == after
    own = {"data_folder", "http"}
    assert {key: value for key, value in tomllib.loads(new).items() if key in own} == {
        key: value for key, value in before.items() if key in own
    }
    assert loads(new).dicom.port == loads(text).dicom.port
    return new


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def test_one_value_is_one_line() -> None:
    after = {"limits": {"associations": 6}, "destinations": [X, Y]}
    assert changed(TEXT, after) == TEXT.replace("associations = 5", "associations = 6")


def test_a_new_value_stands_behind_the_others_of_its_table() -> None:
    after = {"limits": {"associations": 5, "find_matches": 9}, "destinations": [X, Y]}
    assert changed(TEXT, after) == TEXT.replace("# few\n", "# few\nfind_matches = 9\n")
    after = {"limits": {"associations": 5}, "dicom": {"lenient_levels": True}, "destinations": [X, Y]}
    assert changed(TEXT, after) == TEXT.replace("port = 104\n", "port = 104\nlenient_levels = true\n")


def test_a_new_entry_of_a_list_stands_behind_the_others() -> None:
    after = {"limits": {"associations": 5}, "destinations": [X, Y, Z]}
    entry = '\n[[destinations]]\nae_title = "Z"\nhost = "z"\nport = 3\n'
    assert changed(TEXT, after) == TEXT.replace("port = 2\n", f"port = 2\n{entry}")


def test_a_list_that_is_new_stands_at_the_end() -> None:
    after = {"limits": {"associations": 5}, "destinations": [X, Y], "routes": [ROUTE]}
    entry = '\n[[routes]]\ncalling_ae = "CT"\nworkers = {site = "a"}\nonly = true\n'
    assert changed(TEXT, after) == TEXT + entry


def test_an_entry_that_changes_keeps_its_place_and_its_comments() -> None:
    after = {"limits": {"associations": 5}, "destinations": [X, {**Y, "port": 22}]}
    assert changed(TEXT, after) == TEXT.replace("port = 2\n", "port = 22\n")


@pytest.mark.parametrize("left", [[X], [Y], [Y, X], [Z, X, Y], [X, Z, Y]])
def test_no_comment_but_that_of_an_entry_itself_is_lost(left: list[dict[str, object]]) -> None:
    new = changed(TEXT, {"limits": {"associations": 5}, "destinations": left})
    assert set(comments(TEXT)) - set(comments(new)) <= {"# the first"}


def test_what_is_taken_away_leaves_no_empty_table() -> None:
    assert changed("[limits]\nassociations = 5\n", {}) == "\n"
    assert changed("[[peers]]\nae_title = 'A'\n", {}).strip() == ""
    assert "[limits]" in changed("[limits]\n# as few as can be\nassociations = 5\n", {})


def test_lists_may_be_written_in_one_line_and_tables_by_dotted_keys() -> None:
    entry = '{ae_title = "X", host = "x", port = 1}'
    text = f"destinations = [\n  {entry},  # the first\n]\nlimits.associations = 5\n"
    after = {"limits": {"associations": 6, "find_matches": 9}, "destinations": [X, Y]}
    new = changed(text, after)
    assert "# the first" in new
    assert "limits.associations = 6" in new
    assert changed("limits = { associations = 5 }\n", {"limits": {"find_matches": 7}}).startswith(
        "limits = {"
    )


def test_an_empty_file_is_filled() -> None:
    new = changed("", {"dicom": {"lenient_levels": True}, "peers": [{"ae_title": "A"}], "routes": [ROUTE]})
    assert new.startswith("[dicom]")


TITLES = st.lists(st.sampled_from("ABCDEF"), unique=True, max_size=5)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    values: dict[str, Any] = {
        "peers": [
            {"ae_title": title, **draw(st.fixed_dictionaries({}, optional={"show_rejected": st.booleans()}))}
            for title in draw(TITLES)
        ],
        "destinations": [
            {"ae_title": title, "host": "h", "port": draw(st.integers(1, 3))} for title in draw(TITLES)
        ],
        "routes": [
            {"calling_ae": title, "workers": {"site": draw(st.sampled_from("ab"))}} for title in draw(TITLES)
        ],
        "limits": draw(
            st.fixed_dictionaries(
                {}, optional={"associations": st.integers(1, 9), "queue_timeout_s": st.floats(1, 9)}
            )
        ),
        "dicom": draw(st.fixed_dictionaries({}, optional={"lenient_levels": st.booleans()})),
    }
    return {key: value for key, value in values.items() if value}


@settings(deadline=None)
@given(st.lists(documents(), min_size=1, max_size=4))
def test_whatever_is_changed_the_file_says_it_afterwards(steps: list[dict[str, object]]) -> None:
    text = TEXT
    for after in steps:
        text = changed(text, after)
    assert "# Ours, since 2020." in text


@settings(deadline=None)
@given(documents(), documents())
def test_a_file_that_somebody_else_wrote_is_changed_as_well(
    before: dict[str, object], after: dict[str, object]
) -> None:
    changed(tomlkit.dumps(before), after)
