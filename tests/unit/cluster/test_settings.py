from __future__ import annotations

from pathlib import Path

import pytest

from cluster.settings import SettingsError, load

SITES = """
[[sites]]
name = "{0}"
objects = "file:///srv/{1}"
catalogue = "sqlite:////srv/{2}"
"""


def sites(*three: tuple[str, str, str]) -> str:
    return "".join(SITES.format(*site) for site in three)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 0", "workers: expected greater than or equal to 1, found 0"),
        ("dicom = 3", "dicom: expected a valid dictionary or instance of Dicom, found 3"),
        ("[dicom]\nprot = 104", "dicom.prot: there is no such setting"),
        (
            "[dicom]\nae_title = 'A\\B'",
            r"dicom.ae_title: expected 1 to 16 ASCII characters without backslash, found 'A\\B'",
        ),
        ("[writing]\ncopies_before_success = 1", "writing.copies_before_success: with 3 sites"),
        (sites(("a", "1", "1"), ("a", "2", "2"), ("c", "3", "3")), "sites: each needs a name of its own"),
        (
            sites(("a", "1", "1"), ("b", "1", "2"), ("c", "3", "3")),
            "sites: each needs an objects folder of its own",
        ),
        (
            sites(("a", "1", "1"), ("b", "2", "3"), ("c", "3", "3")),
            "sites: each needs a catalogue file of its own",
        ),
    ],
)
def test_a_mistake_is_told_by_file_key_and_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file, dicom={"port": 0})
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "\n" not in str(caught.value)


def test_a_mistake_on_the_command_line_names_no_file() -> None:
    with pytest.raises(SettingsError, match=r"^dicom\.port: expected .*65535, found 70000$"):
        load(None, dicom={"port": 70000})


@pytest.mark.parametrize("title", ["ATRIA", " ATRIA ", "A B/C.1", "X" * 16])
def test_an_ae_title_is_taken_without_the_padding(title: str) -> None:
    assert load(None, dicom={"ae_title": title}).dicom.ae_title == title.strip()
