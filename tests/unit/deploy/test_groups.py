"""What is said to who starts a process, or commands below it, with options that do not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("group", ["balancer", "worker"])
def test_an_option_before_the_command_is_refused(group: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "deploy.command.main", group, "--name", "lb1", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stderr) == (
        2,
        "atria: --name belongs behind list\n",
    )


def test_a_balancer_among_others_has_to_be_named(tmp_path: Path) -> None:
    """Two of one name do not count on each other's promises, and could both hold the service address."""
    config = tmp_path / "atria.toml"
    config.write_text('[etcd]\nendpoints = ["http://127.0.0.1:1"]\n')
    refused = subprocess.run(
        [sys.executable, "-m", "deploy.command.main", "balancer", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 2
    assert refused.stderr.endswith("say --name\n")
