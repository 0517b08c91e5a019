"""What a process is asked for by somebody who does not start and end it: to end, or to come back.

A request waits where the cluster's processes meet, until the one that it is for takes it. It speaks of one
process, not of all that will ever have its name: who is started later finds it void.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

Addressee: TypeAlias = Literal["worker", "keeper"]
"""Who is asked: a worker, or who keeps it running and can start it again."""


class RequestsUnavailable(Exception):
    """The request could not be left, or looked for. It may have been left all the same."""


class Wish(enum.StrEnum):
    """What can be asked for."""

    DRAIN = "drain"
    """Finish what you have, end, and stay ended."""
    RESTART = "restart"
    """Finish what you have, and end: to be started again."""
    START = "start"
    """Start what has ended and stays ended."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    wish: Wish
    started_at: datetime | None = None
    """Which process is meant, by its `Member.started_at`; None for whichever there is."""


class Requests(Protocol):
    """Where requests wait: one at most for each addressee and name."""

    async def ask(self, addressee: Addressee, name: str, request: Request) -> None:
        """Leave a request, in the place of one that still waits there.

        Raises
        ------
        RequestsUnavailable
        """

    async def waits(self, addressee: Addressee, name: str) -> bool:
        """Tell whether a request waits that nobody has taken yet.

        Raises
        ------
        RequestsUnavailable
        """

    async def withdraw(self, addressee: Addressee, name: str) -> bool:
        """Take back what was asked; tell whether it still waited.

        Raises
        ------
        RequestsUnavailable
        """

    def incoming(self, addressee: Addressee, name: str) -> AsyncGenerator[Request]:
        """Take each request as it comes, and yield it: no request is yielded twice, to whomever.

        The iterator neither ends nor raises when requests cannot be looked for: it goes on when they can.
        """
