from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.credentials import REREAD_INTERVAL_S, SiteCredentials
from storage_node.site.protocol import SiteUnavailable
from tests.unit.deploy.sites import bucket_site

GENERAL = {"ATRIA_S3_ACCESS_KEY": "general", "ATRIA_S3_SECRET_KEY": "sesame"}
OWN = {"ATRIA_S3_ACCESS_KEY_NORTH_2": "own", "ATRIA_S3_SECRET_KEY_NORTH_2": "sesame"}


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shared_credentials(file: Path, access_key: str, profile: str = "default") -> Path:
    beside = file.with_suffix(".new")
    beside.write_text(
        f"[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = a%b/c+d\n"
        "aws_session_token = token\n"
    )
    beside.replace(file)
    return file


def test_the_environment_has_them_for_one_site_or_for_all() -> None:
    site = bucket_site("north-2")
    assert SiteCredentials(site, GENERAL | OWN)().access_key == "own"
    assert SiteCredentials(bucket_site("south"), GENERAL | OWN)().access_key == "general"


def test_a_file_that_the_settings_name_stands_above_the_environment_for_all_sites(tmp_path: Path) -> None:
    file = shared_credentials(tmp_path / "credentials", "file")
    site = bucket_site("north-2", credentials_file=file)
    found = SiteCredentials(site, GENERAL)()
    assert (found.access_key, found.secret_key, found.session_token) == ("file", "a%b/c+d", "token")
    assert SiteCredentials(site, GENERAL | OWN)().access_key == "own"


def test_a_profile_is_a_section_of_the_file(tmp_path: Path) -> None:
    file = shared_credentials(tmp_path / "credentials", "pacs", profile="pacs")
    site = bucket_site(credentials_file=file, credentials_profile="pacs")
    assert SiteCredentials(site, {})().access_key == "pacs"


def test_credentials_that_change_in_the_file_are_taken_without_a_restart(tmp_path: Path) -> None:
    file = shared_credentials(tmp_path / "credentials", "first")
    clock = Clock()
    credentials = SiteCredentials(bucket_site(credentials_file=file), {}, clock)
    assert credentials().access_key == "first"
    shared_credentials(file, "second")
    clock.now_s += REREAD_INTERVAL_S
    assert credentials().access_key == "second"


def test_the_file_is_not_read_for_each_request(tmp_path: Path) -> None:
    file = shared_credentials(tmp_path / "credentials", "first")
    clock = Clock()
    credentials = SiteCredentials(bucket_site(credentials_file=file), {}, clock)
    credentials()
    file.unlink()
    clock.now_s += REREAD_INTERVAL_S / 2
    assert credentials().access_key == "first"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        ("[other]\n", "expected default (credentials_profile is 'default'), found nothing"),
        ("[default]\naws_access_key_id = x\n", "expected aws_secret_access_key"),
        ("sesame", "is no AWS shared credentials file"),
        ("[default]\nsesame\n", "is no AWS shared credentials file"),
    ],
)
def test_a_file_that_has_none_is_told_by_site_and_setting(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SiteUnavailable) as caught:
        SiteCredentials(bucket_site(credentials_file=file), GENERAL)()
    assert str(caught.value).startswith(f"site a: credentials_file: {file}")
    assert said in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_site_without_any_is_told_by_name_and_by_what_to_set() -> None:
    with pytest.raises(SiteUnavailable, match=r"^site a: no credentials: .*credentials_file.*_SECRET_KEY_A$"):
        SiteCredentials(bucket_site(), {"ATRIA_S3_ACCESS_KEY": "half"})()


def test_nothing_that_shows_them_shows_them(tmp_path: Path) -> None:
    credentials = SiteCredentials(bucket_site(), GENERAL)
    assert "sesame" not in f"{credentials!r} {credentials()!r} {vars(credentials)}"
    assert os.environ.get("ATRIA_S3_SECRET_KEY") is None
