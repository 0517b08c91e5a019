"""What a site answers as a stream, asked for page by page: a long one must not have one time limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from storage_node.grid.sites import GridSite, Sites

T = TypeVar("T")

_PAGE: Final = 256
"""Answers that are read from a site within one time limit."""


async def asked(
    sites: Sites, site: GridSite, answers: AsyncIterator[T], *, even_down: bool = False
) -> AsyncGenerator[T]:
    """Yield what a site answers, page by page: each has the time limit of one call.

    Parameters
    ----------
    sites : Sites
    site : GridSite
    answers : asynchronous iterator
    even_down : bool
        Whether to ask a site that is down, too: it may be so by its catalogue alone.

    Raises
    ------
    SiteFailed
    """
    generator: AsyncGenerator[T] = answers if isinstance(answers, AsyncGenerator) else _generator(answers)
    async with aclosing(generator):
        while page := await sites.ask(site, _page(generator), even_down=even_down):
            for answer in page:
                yield answer


async def _page(answers: AsyncIterator[T]) -> list[T]:
    page: list[T] = []
    async for answer in answers:
        page.append(answer)
        if len(page) == _PAGE:
            break
    return page


async def _generator(answers: AsyncIterator[T]) -> AsyncGenerator[T]:
    async for answer in answers:
        yield answer
