from __future__ import annotations

import pytest
from typer.testing import CliRunner

from deploy.command.main import build
from deploy.errors import UserError


@pytest.mark.parametrize("process", ["balancer", "worker"])
@pytest.mark.parametrize(
    ("option", "value"), [("--data", "somewhere"), ("--config", "some.toml"), ("--name", "lb1")]
)
def test_an_option_that_a_command_behind_it_would_not_see_is_refused(
    process: str, option: str, value: str
) -> None:
    done = CliRunner().invoke(build(), [process, option, value, "list"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"{option} belongs behind list"


def test_it_is_named_as_it_is_written() -> None:
    done = CliRunner().invoke(build(), ["conflicts", "--json", "show", "1.2.3"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "--json belongs behind show"
