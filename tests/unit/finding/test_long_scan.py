"""A find that looks at much, of which little matches, goes on as long as it comes on, or until given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from cluster.nouns import Level, SiteIdentity
from storage_node.catalogue.matching import Query
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Match
from storage_node.grid.find import Finding, NoCatalogue
from tests.contract.catalogue.rows import add, row
from tests.waiting import until

STUDIES = Query(Level.STUDY)


class Scanning(MemoryCatalogue):
    """A catalogue that reads pages in which nothing matches, before those of which something does."""

    def __init__(self, pages: int, page_s: float = 0.0) -> None:
        super().__init__("a", SiteIdentity("a", "a", 1))
        self._pages = pages
        self._page_s = page_s
        self.read = 0

    async def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        for _ in range(self._pages):
            await asyncio.sleep(self._page_s)
            self.read += 1
            if looked is not None:
                looked()
        async for match in super().find(query, limit, looked=looked):
            yield match


async def test_a_catalogue_that_comes_on_is_waited_for_though_nothing_matches() -> None:
    catalogue = Scanning(pages=30, page_s=0.05)
    await add(catalogue, row("1.1"))
    finding = Finding([catalogue], STUDIES, 10, needed=1, answer_timeout_s=1.0)
    assert [match.uid async for match in finding] == [("1.1",)]


async def test_a_catalogue_that_hangs_in_a_page_is_not_waited_for() -> None:
    catalogue = Scanning(pages=1, page_s=60)
    with pytest.raises(NoCatalogue):
        await anext(Finding([catalogue], STUDIES, 10, needed=1, answer_timeout_s=0.05))


async def test_a_find_that_is_given_up_reads_no_more() -> None:
    catalogues = [Scanning(pages=1_000_000) for _ in range(2)]
    finding = Finding(catalogues, STUDIES, 10, needed=2)
    looking = asyncio.ensure_future(anext(finding))
    await until(lambda: all(catalogue.read for catalogue in catalogues))
    looking.cancel()
    await asyncio.wait({looking})
    await finding.aclose()
    read = [catalogue.read for catalogue in catalogues]
    await asyncio.sleep(0.01)
    assert [catalogue.read for catalogue in catalogues] == read > [0, 0]
