"""What a database answers page by page, as one stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from storage_node.catalogue.columns import uids_of

if TYPE_CHECKING:
    from cluster.nouns import Fact
    from storage_node.catalogue.find import Page
    from storage_node.catalogue.protocol import Entry, Match, StudySummary

_MATCHES: Final = 200
_ENTRIES: Final = 1000
"""Rows of a page."""


async def matches(
    page: Callable[[tuple[str, ...] | None, int], Awaitable[Page]],
    limit: int,
    looked: Callable[[], None] | None = None,
) -> AsyncGenerator[Match]:
    """Yield what matches, at most `limit`; a page is asked for by where it begins, and its size.

    After each page `looked` is called (`Catalogue.find`).
    """
    after: tuple[str, ...] | None = None
    found = 0
    while found < limit:
        answer = await page(after, _MATCHES)
        if looked is not None:
            looked()
        for match in answer.matches[: limit - found]:
            yield match
        found += len(answer.matches)
        after = answer.after
        if after is None:
            return


async def entries(
    page: Callable[[Entry | None, int], Awaitable[Sequence[Entry]]],
) -> AsyncGenerator[Entry]:
    """Yield entries; a page is asked for by the entry before it, and its size."""
    after: Entry | None = None
    while True:
        answer = await page(after, _ENTRIES)
        for entry in answer:
            yield entry
        if len(answer) < _ENTRIES:
            return
        after = answer[-1]


async def facts(
    page: Callable[[tuple[str, str, str], int], Awaitable[Sequence[Fact]]], after: str
) -> AsyncGenerator[Fact]:
    """Yield facts about studies after one; a page is asked for by the UIDs before it, and its size."""
    place = (f"{after}\x01", "", "")  # before the next UID that there can be
    while answer := await page(place, _ENTRIES):
        for fact in answer:
            yield fact
        place = uids_of(answer[-1].instance)


async def summaries(
    page: Callable[[str, int], Awaitable[Sequence[StudySummary]]],
) -> AsyncGenerator[StudySummary]:
    """Yield summaries; a page is asked for by the study before it, and its size."""
    after = ""
    while answer := await page(after, _ENTRIES):
        for summary in answer:
            yield summary
        after = answer[-1].study_instance_uid
