"""Which requests of an association have no final answer yet (PS3.7 7.5)."""

from __future__ import annotations

from typing import Final

from cluster.dicom.command_set import CommandField, CommandSet

_PENDING: Final = frozenset({0xFF00, 0xFF01})
"""Statuses of a response that others follow (PS3.7 annex C)."""


class OpenRequests:
    """Those of both sides. Each has its own Message IDs: what one side asks, the other answers."""

    __slots__ = ("_ours", "_theirs")

    def __init__(self) -> None:
        self._ours: set[int | None] = set()
        self._theirs: set[int | None] = set()

    def __bool__(self) -> bool:
        return bool(self._ours or self._theirs)

    def sent(self, command: CommandSet) -> None:
        """Note a message that was sent."""
        _note(command, asked=self._ours, answered=self._theirs)

    def received(self, command: CommandSet) -> None:
        """Note a message that was received."""
        _note(command, asked=self._theirs, answered=self._ours)


def _note(command: CommandSet, *, asked: set[int | None], answered: set[int | None]) -> None:
    if command.command_field == CommandField.C_CANCEL_RQ:
        return  # it has no answer of its own (PS3.7 9.3.2.3)
    if command.is_request:
        asked.add(command.message_id)
    elif command.status not in _PENDING:
        answered.discard(command.message_id_being_responded_to)
