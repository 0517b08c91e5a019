from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.errors import UserError
from deploy.supervisor import sole_user


def test_a_second_cluster_in_the_same_folder_is_told_who_runs(tmp_path: Path) -> None:
    with (
        sole_user(tmp_path),
        pytest.raises(UserError, match=rf"already \(process {os.getpid()}\)"),
        sole_user(tmp_path),
    ):
        pass


def test_the_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_user(tmp_path / "new" / "folder"):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=f"cannot write the data folder {tmp_path}/file/data"),
        sole_user(tmp_path / "file" / "data"),
    ):
        pass
