"""What has to hold of each sub-command, also of those that come later."""

from __future__ import annotations

import pytest
import typer

from tests.unit.deploy.commands import PROCESSES, Command, commands, root


def test_all_commands_are_walked_through() -> None:
    known = {str(one) for one in commands()}
    assert {"up", "worker", "worker list", "conflicts", "conflicts show", "deploy render", "demo"} <= known
    assert known >= PROCESSES


@pytest.mark.parametrize("command", commands(), ids=str)
def test_each_command_that_ends_by_itself_answers_scripts_in_json(command: Command) -> None:
    assert ("--json" in command.options) == (str(command) not in PROCESSES)


@pytest.mark.parametrize("command", commands(), ids=str)
def test_each_command_shows_in_its_help_how_it_is_called_and_that_is_understood(command: Command) -> None:
    assert command.examples
    for words in command.examples:
        assert words[0] == command.words[0]
        _parse(words)


@pytest.mark.parametrize("command", commands(), ids=str)
def test_each_option_and_each_argument_is_explained(command: Command) -> None:
    unexplained = [one.name for one in command.click.params if not getattr(one, "help", "")]
    assert unexplained == []


def _parse(words: list[str]) -> None:
    """Parse a command line, and do nothing of what it says."""
    command = root()
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context("atria", words)
    except typer.BadParameter as error:
        if "does not exist" not in str(error):  # the files of an example need not be here
            raise
