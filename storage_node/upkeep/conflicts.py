"""Instances of which a person has to say which version is the right one, and how they differ."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.dicom.elements import PackedHeaderError, text, unpack, vr_of
from cluster.nouns import FactKind, Topic
from storage_node.catalogue.matching import by_uids
from storage_node.catalogue.views import chosen, is_hidden, ruling
from storage_node.grid import choices
from storage_node.upkeep.holding import holding
from storage_node.upkeep.where import instances

if TYPE_CHECKING:
    from cluster.dicom.elements import Elements
    from cluster.nouns import Fact, Instance
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.grid import Grid

_NOT_TEXT: Final = frozenset(
    ("AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SQ", "SS", "SV", "UL", "UN", "US", "UV")
)


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of an instance, and which of them was chosen."""

    instance: Instance
    rows: Sequence[Row]
    """The first first."""
    choice: Fact | None
    """What was decided about them, and holds."""

    @property
    def current(self) -> Row:
        """The version that is in answers."""
        digest = None if self.choice is None else chosen([self.choice])
        return next((row for row in self.rows if row.version.digest == digest), self.rows[-1])

    @property
    def conflict(self) -> str | None:
        """What a person has to decide about; None if there is nothing."""
        if self.choice is None or self.choice.kind is not FactKind.CHOSEN:
            return None
        relation = choices.relation_of(self.choice)
        if relation is not None:
            return str(relation) if relation.needs_a_person else None
        seen = choices.seen(self.choice)
        return choices.UNDECIDED if any(choices.name(row.version) not in seen for row in self.rows) else None


@dataclass(frozen=True, slots=True)
class Difference:
    """An attribute that is not the same in all versions."""

    attribute: str
    """Its keyword; its tag where it has none."""
    values: tuple[str | None, ...]
    """What it is in each version, in their order; None where it is missing."""


async def conflicts(grid: Grid) -> AsyncGenerator[Versions]:
    """Yield the instances that a person has to look at, and that are in answers, by UID.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    async with aclosing(holding(grid, FactKind.CHOSEN)) as facts:
        async for choice, held in facts:
            rows = choices.in_order(await grid.rows_of(choice.instance))
            found = Versions(choice.instance, rows, choice)
            if rows and found.conflict and not is_hidden(held):
                yield found


async def versions(grid: Grid, sop_instance_uid: str) -> list[Versions]:
    """Return the versions of the instances with a SOP Instance UID: one, unless a sender was wrong.

    Raises
    ------
    NotEnoughSites
        No catalogue answers.
    """
    found: list[Versions] = []
    for instance in await instances(grid, by_uids(sop=(sop_instance_uid,))):
        known = await grid.facts_at_sites(instance)
        choice = ruling((fact for facts in known.values() for fact in facts), Topic.CHOICE)
        found.append(Versions(instance, choices.in_order(await grid.rows_of(instance)), choice))
    return found


async def choose(grid: Grid, among: Versions, row: Row, *, by: str, reason: str) -> Fact:
    """Decide which version is the current one: nothing that comes later changes that by itself.

    Raises
    ------
    NotEnoughSites
        It is not decided.
    """
    seen = [choices.name(known.version) for known in among.rows]
    return await grid.decide(
        among.instance, FactKind.CHOSEN, by=by, reason=reason, details=choices.details(row.version, seen)
    )


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Return in what the headers of versions differ, as far as the catalogues keep them (not the pixels)."""
    headers = [_header(row) for row in rows]
    syntaxes = {row.version.transfer_syntax_uid for row in rows}
    found: list[Difference] = []
    for tag in sorted({tag for header in headers for tag in header}):
        elements = [header.get(tag) for header in headers]
        if len({element and element.value for element in elements}) == 1:
            continue
        vrs = {vr_of(tag, element) for element in elements if element is not None}
        if "SQ" in vrs and len(syntaxes) > 1:
            continue  # what is nested is encoded otherwise, be it the same or not
        values = tuple(_told(header, tag, vrs) for header in headers)
        found.append(Difference(_keyword(tag), values))
    return found


def _header(row: Row) -> Elements:
    try:
        return unpack(row.header)
    except PackedHeaderError:
        return {}


def _told(header: Elements, tag: int, vrs: set[str]) -> str | None:
    element = header.get(tag)
    if element is None:
        return None
    if vrs & _NOT_TEXT:
        return f"{len(element.value)} bytes"
    return text(header, tag)


def _keyword(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
