"""All sub-commands of `atria`, for what has to hold of each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import typer

from deploy.command.main import build

PROCESSES = frozenset({"balancer", "upkeep", "worker"})
"""What they say is their log, and they go on until they are told to end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: object
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed; it must have succeeded."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


Atria: TypeAlias = Callable[..., Ended]
"""Runs a command, and returns how it ended."""


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command, as `worker list`."""

    words: tuple[str, ...]
    click: Any

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def options(self) -> frozenset[str]:
        return frozenset(option for parameter in self.click.params for option in parameter.opts)

    @property
    def examples(self) -> list[list[str]]:
        """The lines of its help below "Examples", each as the words behind `atria`."""
        _, _, examples = (self.click.help or "").partition("[bold]Examples[/]")
        lines = [line.strip() for line in examples.splitlines()]
        found = [shlex.split(line.partition("||")[0]) for line in lines if line]
        assert all(words[0] == "atria" for words in found), found
        return [words[1:] for words in found]


@cache
def root() -> Any:
    """Return the `atria` command."""
    return typer.main.get_command(build())


@cache
def commands() -> tuple[Command, ...]:
    """Return all of them; a group is one where it does something by itself."""
    return tuple(_below(root(), ()))


def _below(click: Any, words: tuple[str, ...]) -> Iterator[Command]:
    below = getattr(click, "commands", {})
    if not below or click.invoke_without_command:
        yield Command(words, click)
    for name, one in below.items():
        yield from _below(one, (*words, name))
