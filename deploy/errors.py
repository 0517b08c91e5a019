"""What is said to a person at a terminal."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """Something that the user can mend. The message is one line: what happened, to what, what to do."""


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first exception of a group that is no group: the one that ended the other tasks."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
