from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import UserError
from deploy.overrides import Overrides


def test_the_command_line_stands_above_the_file(tmp_path: Path) -> None:
    config = tmp_path / "atria.toml"
    config.write_text('workers = 3\n[dicom]\nport = 104\nae_title = "FILE"\n')
    settings = Overrides(config=config, data=tmp_path, dicom_port=0, host="::1").settings()
    assert (settings.dicom.port, settings.dicom.ae_title, settings.workers) == (0, "FILE", 3)
    assert (settings.dicom.host, settings.http.host) == ("::1", "::1")


def test_a_child_that_is_given_the_arguments_reads_the_same_settings(tmp_path: Path) -> None:
    given = Overrides(None, tmp_path, "127.0.0.2", 0, 8113, "OTHER")
    options = dict(word.removeprefix("--").split("=", 1) for word in given.arguments())
    again = Overrides(
        None,
        Path(options["data"]),
        options["host"],
        int(options["dicom-port"]),
        int(options["http-port"]),
        options["ae-title"],
    )
    assert again.settings() == given.settings()


def test_a_home_folder_means_the_same_to_a_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = Overrides(data=Path("~/pacs"))
    assert given.settings().data_folder == tmp_path / "pacs"
    assert given.arguments() == [f"--data={tmp_path}/pacs"]


def test_a_settings_error_is_one_line_that_names_file_and_key(tmp_path: Path) -> None:
    config = tmp_path / "atria.toml"
    config.write_text("[dicom]\nport = 70000\n")
    with pytest.raises(UserError, match=r"atria\.toml.*dicom\.port") as raised:
        Overrides(config=config).settings()
    assert "\n" not in str(raised.value)


def test_who_names_no_file_reads_that_of_the_data_folder(tmp_path: Path) -> None:
    assert Overrides(data=tmp_path).file == tmp_path / "atria.toml"
    assert Overrides(data=tmp_path).settings().workers == 2
    (tmp_path / "atria.toml").write_text("workers = 3\n")
    assert Overrides(data=tmp_path).settings().workers == 3
    (tmp_path / "other.toml").write_text("workers = 4\n")
    assert Overrides(tmp_path / "other.toml", tmp_path).settings().workers == 4
    assert Overrides(tmp_path / "other.toml", tmp_path).file == tmp_path / "other.toml"


def test_the_data_folder_whose_file_is_read_is_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / ".local" / "share" / "atria"
    own.mkdir(parents=True)
    (own / "atria.toml").write_text("workers = 3\ndata_folder = '/elsewhere'\n")
    assert Overrides().settings().data_folder == own
    assert Overrides().settings().workers == 3
