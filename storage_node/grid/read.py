"""Reading a version from the sites: what is passed on was checked, wherever it came from.

The nearest healthy site is asked first; when it is slow, another is asked as well, and who answers first with
the right bytes wins. A site that answers with wrong ones, or with none, is owed a new copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.nouns import BLOCK_BYTES, Debt, Version
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing

if TYPE_CHECKING:
    from storage_node.grid.sites import GridSite, Sites

_BAD_COPIES = Counter(
    "atria_grid_bad_copies_total", "Copies that were found missing or wrong", ["site", "fault"]
)
_HEDGED = Counter("atria_grid_hedged_reads_total", "Reads for which a second site was asked")

_INLINE_LIMIT_BYTES: Final = 64 * 1024
"""Up to this size a digest costs less than the way to a thread and back."""

log = structlog.get_logger()


class NoCopy(Exception):
    """No site that can be reached gives a copy with the right digest."""

    def __init__(self, version: Version, reasons: dict[str, str]) -> None:
        why = "; ".join(f"{site}: {reason}" for site, reason in reasons.items())
        super().__init__(f"no copy of {version.digest[:12]} can be read ({why})")
        self.version = version
        self.reasons = reasons


class _BadCopy(Exception):
    """The bytes that a site gave are not the version's."""


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    length: int
    digest: str
    asked: int
    """Bytes to ask for: of a whole object one more than it has, so that what is too long is seen."""


def _spans(version: Version) -> Iterator[_Span]:
    if not version.block_digests:
        yield _Span(0, version.size_bytes, version.digest, version.size_bytes + 1)
        return
    for number, digest in enumerate(version.block_digests):
        start = number * BLOCK_BYTES
        length = min(BLOCK_BYTES, version.size_bytes - start)
        yield _Span(start, length, digest, length)


class Reader:
    """Reads versions.

    Parameters
    ----------
    sites : Sites
    hedge_after_s : float
        How long one site is waited for before another is asked as well.
    on_bad_copy : callable
        Told of each site that showed a bad copy.
    """

    def __init__(self, sites: Sites, *, hedge_after_s: float, on_bad_copy: Callable[[Debt], None]) -> None:
        self._sites = sites
        self._hedge_after_s = hedge_after_s
        self._on_bad_copy = on_bad_copy

    async def read(self, version: Version) -> AsyncGenerator[bytes]:
        """Yield the bytes of a version, each piece checked before; of a streamed one the next is read ahead.

        Raises
        ------
        NoCopy
        """
        order = list(self._sites.by_health())
        ahead: asyncio.Task[bytes] | None = None
        try:
            for span in _spans(version):
                current, ahead = ahead, asyncio.create_task(self._read_span(version, span, order))
                if current is not None:
                    yield await current
            if ahead is not None:
                yield await ahead
        finally:
            if ahead is not None:
                await _end([ahead])

    async def _read_span(self, version: Version, span: _Span, order: list[GridSite]) -> bytes:
        """Return one piece from the first site that gives it right; that site is asked first for the next."""
        left = iter(tuple(order))
        running: dict[asyncio.Task[bytes], GridSite] = {}
        reasons: dict[str, str] = {}
        try:
            while True:
                site = next(left, None)
                if site is not None:
                    if running:
                        _HEDGED.inc()
                    running[asyncio.create_task(self._ask(site, version, span))] = site
                elif not running:
                    raise NoCopy(version, reasons)
                done, _ = await asyncio.wait(
                    running,
                    timeout=None if site is None else self._hedge_after_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    site = running.pop(task)
                    try:
                        piece = task.result()
                    except (SiteFailed, _BadCopy) as error:
                        reasons[site.name] = str(error)
                        _move(order, site, len(order))
                    else:
                        _move(order, site, 0)
                        return piece
        finally:
            await _end(running)

    async def _ask(self, site: GridSite, version: Version, span: _Span) -> bytes:
        try:
            return await self._get(site, version, span)
        except (ObjectMissing, ObjectFault, _BadCopy) as error:
            fault = type(error).__name__.lstrip("_")
            log.warning(
                "read.bad_copy", site=site.name, digest=version.digest, fault=fault, reason=str(error)
            )
            _BAD_COPIES.labels(site=site.name, fault=fault).inc()
            self._on_bad_copy(Debt(site.name, version.instance, version.digest))
            raise _BadCopy(str(error)) from error

    async def _get(self, site: GridSite, version: Version, span: _Span) -> bytes:
        try:
            return await self._get_at(site, version.key, span)
        except (ObjectMissing, ObjectFault, _BadCopy):
            key = await self._own_key(site, version)
            if key == version.key:
                raise
            return await self._get_at(site, key, span)

    async def _get_at(self, site: GridSite, key: str, span: _Span) -> bytes:
        piece = await self._sites.ask(site, site.objects.get(key, span.start, span.asked))
        if len(piece) != span.length or await _digest(piece) != span.digest:
            raise _BadCopy("its bytes are not the version's")
        return piece

    async def _own_key(self, site: GridSite, version: Version) -> str:
        """Return the key that the site's own row names: another than elsewhere, if it was streamed twice."""
        try:
            rows = await self._sites.ask(site, site.catalogue.rows_of(version.instance))
        except SiteFailed:
            return version.key
        keys = (row.version.key for row in rows if row.version.digest == version.digest)
        return next(keys, version.key)


def _move(order: list[GridSite], site: GridSite, to: int) -> None:
    order.remove(site)
    order.insert(to, site)


async def _digest(piece: bytes) -> str:
    if len(piece) <= _INLINE_LIMIT_BYTES:
        return sha256(piece).hexdigest()
    return (await asyncio.to_thread(sha256, piece)).hexdigest()


async def _end(tasks: Iterable[asyncio.Task[bytes]]) -> None:
    """Cancel what is not needed any more, and await its end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
