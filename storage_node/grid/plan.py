"""One write, of a version or a fact, decided step by step: no I/O, no clock, no task.

Whoever drives it does each step that `next_step` returns, tells what came of it, and asks again. At any step
the driver may die: what it leaves was not acknowledged, and is objects without rows, or rows at fewer sites
than W.

What holds at `Acknowledge` (and what the tests look for after every step of every run): W sites or more hold
the object and a confirmed row of the same order, and each other site is noted as a debt at W of them or
more.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from storage_node.grid.quorum import Quorum


@dataclass(frozen=True, slots=True)
class PutObjects:
    """Put the object at these sites, all at once."""

    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddRows:
    """Add the row at these sites, with these sites noted as debts in the same transaction."""

    sites: tuple[str, ...]
    owed: tuple[str, ...]
    order: int
    """Lower bound of the row's `order`."""


@dataclass(frozen=True, slots=True)
class NoteDebts:
    """Note debts at these sites, whose rows are there already."""

    sites: tuple[str, ...]
    owed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until something is told. Past the grace, if there is one, tell `grace_over`."""

    grace: bool
    """Whether the rest changes nothing any more: only stragglers are waited for, to owe or to count them."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """It is written."""

    copies: tuple[str, ...]
    owed: tuple[str, ...]
    order: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot be written now: too few sites."""

    answered: int
    """Sites that took it, of those that had their grace to do so."""


Step: TypeAlias = PutObjects | AddRows | NoteDebts | Wait | Acknowledge | Refuse


class _State(enum.Enum):
    IDLE = enum.auto()
    ASKED = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True)
class _Site:
    object: _State = _State.IDLE
    row: _State = _State.IDLE
    note: _State = _State.IDLE
    order: int = 0
    notes: set[str] = field(default_factory=set)
    """Sites that are noted here as debts, durably."""
    asked: frozenset[str] = frozenset()
    """Sites that will be noted here as debts when what was asked is done."""


class _Phase(enum.Enum):
    OBJECTS = enum.auto()
    ROWS = enum.auto()
    DEBTS = enum.auto()


class WritePlan:
    """The decisions of one write.

    Parameters
    ----------
    sites : sequence of str
        All sites of the cluster.
    tried : iterable of str
        Those that are worth a try: not known to be down.
    quorum : Quorum
    """

    def __init__(self, sites: Sequence[str], tried: Iterable[str], quorum: Quorum) -> None:
        assert len(sites) == quorum.sites
        self._sites = {name: _Site() for name in sites}
        self._tried = tuple(tried)
        self._needed = quorum.write
        self._phase = _Phase.OBJECTS
        self._grace_over = False

    def object_done(self, site: str) -> bool:
        """Tell that the object is durable at a site; return False if that is too late to count."""
        if self._phase is not _Phase.OBJECTS:
            return False
        self._sites[site].object = _State.DONE
        return True

    def object_failed(self, site: str) -> None:
        """Tell that the object could not be put; it may be there all the same."""
        if self._phase is _Phase.OBJECTS:
            self._sites[site].object = _State.FAILED

    def row_done(self, site: str, order: int) -> bool:
        """Tell that the row, with the debts that were to go with it, is durable at a site.

        Return False if that is too late to count: the site is owed the copy, or the write is over.
        """
        if self._phase is not _Phase.ROWS:
            return False
        state = self._sites[site]
        state.row = _State.DONE
        state.order = order
        state.notes |= state.asked
        return True

    def row_failed(self, site: str) -> None:
        """Tell that the row could not be added; it may be there all the same."""
        if self._phase is _Phase.ROWS:
            self._sites[site].row = _State.FAILED

    def debts_done(self, site: str) -> None:
        """Tell that debts are noted durably at a site."""
        state = self._sites[site]
        state.note = _State.DONE
        state.notes |= state.asked

    def debts_failed(self, site: str) -> None:
        """Tell that debts could not be noted at a site."""
        self._sites[site].note = _State.FAILED

    def grace_over(self) -> None:
        """Tell that stragglers have been waited for long enough."""
        self._grace_over = True

    def next_step(self) -> Step:
        """Return what is to be done now. Each step but `Wait` is returned once."""
        if self._phase is _Phase.OBJECTS:
            return self._objects()
        if self._phase is _Phase.ROWS:
            return self._rows()
        return self._debts()

    def _objects(self) -> Step:
        idle = tuple(name for name in self._tried if self._sites[name].object is _State.IDLE)
        if len(self._tried) < self._needed:
            return Refuse(len(self._tried))
        if idle:
            for name in idle:
                self._sites[name].object = _State.ASKED
            return PutObjects(idle)
        held, pending = self._count("object")
        if (waiting := self._wait_or_refuse(held, pending)) is not None:
            return waiting
        self._phase = _Phase.ROWS
        self._grace_over = False
        return self._add_rows(self._names(lambda state: state.object is _State.DONE), order=0)

    def _rows(self) -> Step:
        confirmed, pending = self._count("row")
        if (waiting := self._wait_or_refuse(confirmed, pending)) is not None:
            return waiting
        highest = max(state.order for state in self._sites.values() if state.row is _State.DONE)
        behind = self._names(lambda state: state.row is _State.DONE and state.order < highest)
        if behind:
            return self._add_rows(behind, highest)
        self._phase = _Phase.DEBTS
        return self._debts()

    def _debts(self) -> Step:
        copies = self._names(lambda state: state.row is _State.DONE)
        owed = self._names(lambda state: state.row is not _State.DONE)
        if all(sum(site in self._sites[name].notes for name in copies) >= self._needed for site in owed):
            return Acknowledge(copies, owed, self._sites[copies[0]].order)
        lacking = self._names(
            lambda state: (
                state.row is _State.DONE and state.note is _State.IDLE and not state.notes.issuperset(owed)
            )
        )
        if lacking:
            for name in lacking:
                self._sites[name].note = _State.ASKED
                self._sites[name].asked = frozenset(owed)
            return NoteDebts(lacking, owed)
        pending = self._names(lambda state: state.note is _State.ASKED)
        if pending:
            return Wait(grace=False)
        return Refuse(sum(self._sites[name].notes.issuperset(owed) for name in copies))

    def _add_rows(self, sites: tuple[str, ...], order: int) -> AddRows:
        owed = self._names(lambda state: state.object is not _State.DONE)
        for name in sites:
            self._sites[name].row = _State.ASKED
            self._sites[name].asked = frozenset(owed)
        return AddRows(sites, owed, order)

    def _names(self, chosen: Callable[[_Site], bool]) -> tuple[str, ...]:
        return tuple(name for name, state in self._sites.items() if chosen(state))

    def _wait_or_refuse(self, done: int, pending: int) -> Step | None:
        is_decided = done >= self._needed or done + pending < self._needed
        if pending and not is_decided:
            return Wait(grace=False)
        if pending and not self._grace_over:
            return Wait(grace=True)
        return Refuse(done) if done < self._needed else None

    def _count(self, what: str) -> tuple[int, int]:
        states = [getattr(state, what) for state in self._sites.values()]
        return states.count(_State.DONE), states.count(_State.ASKED)
