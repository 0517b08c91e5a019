"""Reading a version from the sites: what is passed on was checked, wherever it came from.

The nearest quick site is asked first; when it is slow, another is asked as well, and who answers first with
the right bytes wins. A site that answers with wrong ones, or with none, is owed a new copy. One that lost to
the other is asked after it until probes find it quick again: it costs one reader his patience, not each of
them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from cluster.nouns import BLOCK_BYTES, Debt, Version
from storage_node.grid.patience import Patience
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing

if TYPE_CHECKING:
    from storage_node.grid.sites import GridSite, Sites

_BAD_COPIES: Final = Counter(
    "atria_grid_bad_copies_total", "Copies that were found missing or wrong", ["site", "fault"]
)
_HEDGED: Final = Counter("atria_grid_hedged_reads_total", "Reads for which a second site was asked")

_INLINE_LIMIT_BYTES: Final = 1024 * 1024
"""Up to this size a digest costs the other associations less than the way to a thread and back."""

log = structlog.get_logger()


class NoCopy(Exception):
    """No site that can be reached gives a copy with the right digest."""

    def __init__(self, version: Version, reasons: dict[str, str]) -> None:
        why = "; ".join(f"{site}: {reason}" for site, reason in reasons.items())
        super().__init__(f"no copy of {version.digest[:12]} can be read ({why})")
        self.version = version
        self.reasons = reasons


class BadCopy(Exception):
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
        How long one site is waited for at most before another is asked as well (`Patience`).
    on_bad_copy : callable
        Told of each site that showed a bad copy.
    """

    def __init__(self, sites: Sites, *, hedge_after_s: float, on_bad_copy: Callable[[Debt], None]) -> None:
        self._sites = sites
        self._patience = Patience(hedge_after_s)
        self._on_bad_copy = on_bad_copy

    async def read(self, version: Version, last: GridSite | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes of a version, each piece checked before; of a streamed one the next is read ahead.

        Parameters
        ----------
        version : Version
        last : GridSite, optional
            Site to ask last: that which is to be given a copy, and as a rule has none.

        Raises
        ------
        NoCopy
        """
        order = list(self._sites.by_health())
        if last is not None:
            order.sort(key=lambda site: site.name == last.name)
        spans = deque(_spans(version))
        ahead: asyncio.Task[bytes] | None = None
        try:
            while spans:
                piece = await (ahead or self._read_span(version, spans[0], order))
                spans.popleft()
                ahead = asyncio.create_task(self._read_span(version, spans[0], order)) if spans else None
                yield piece
        finally:
            if ahead is not None:
                await _end([ahead])

    async def read_at(self, site: GridSite, version: Version) -> AsyncGenerator[bytes]:
        """Yield the bytes of one site's own copy, each piece checked before. Nothing is noted of a bad one.

        Raises
        ------
        BadCopy, ObjectMissing, ObjectFault
            The copy is not there, or not what it should be.
        SiteFailed
            Nothing is known of the copy.
        """
        for span in _spans(version):
            yield await self._get(site, version, span)

    async def _read_span(self, version: Version, span: _Span, order: list[GridSite]) -> bytes:
        """Return one piece from the first site that gives it right; that site is asked first for the next."""
        patience_s = self._patience.for_s(span.length)
        waiting = deque(order)
        running: dict[asyncio.Task[bytes], GridSite] = {}
        reasons: dict[str, str] = {}
        try:
            while waiting or running:
                if waiting and (not running or self._sites.is_up(waiting[0])):
                    site = waiting.popleft()
                    running[asyncio.create_task(self._ask(site, version, span))] = site
                may_hedge = bool(waiting) and self._sites.is_up(waiting[0])
                done, _ = await asyncio.wait(
                    running,
                    timeout=patience_s if may_hedge else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    _HEDGED.inc()
                for task in [task for task in running if task in done]:
                    site = running.pop(task)
                    try:
                        piece = task.result()
                    except (SiteFailed, BadCopy) as error:
                        reasons[site.name] = error.reason if isinstance(error, SiteFailed) else str(error)
                        _move(order, site, len(order))
                    else:
                        for slower in running.values():
                            self._sites.was_slow(slower)
                        _move(order, site, 0)
                        return piece
        finally:
            await _end(running)
        raise NoCopy(version, reasons)

    async def _ask(self, site: GridSite, version: Version, span: _Span) -> bytes:
        try:
            return await self._get(site, version, span)
        except (ObjectMissing, ObjectFault, BadCopy) as error:
            fault = type(error).__name__
            log.warning(
                "read.bad_copy", site=site.name, digest=version.digest, fault=fault, reason=str(error)
            )
            _BAD_COPIES.labels(site=site.name, fault=fault).inc()
            self._on_bad_copy(Debt(site.name, version.instance, version.digest))
            raise BadCopy(f"{fault}: {error}") from error

    async def _get(self, site: GridSite, version: Version, span: _Span) -> bytes:
        try:
            return await self._get_at(site, version.key, span)
        except (ObjectMissing, ObjectFault, BadCopy):
            key = await self._own_key(site, version)
            if key == version.key:
                raise
            return await self._get_at(site, key, span)

    async def _get_at(self, site: GridSite, key: str, span: _Span) -> bytes:
        getting = site.objects.get(key, span.start, span.asked)
        began_s = _time_s()
        piece = await self._sites.ask(site, getting, even_down=True)
        self._patience.took(_time_s() - began_s, len(piece))
        if len(piece) != span.length or await _digest(piece) != span.digest:
            raise BadCopy("its bytes are not the version's")
        return piece

    async def _own_key(self, site: GridSite, version: Version) -> str:
        """Return the key that the site's own row names: another than elsewhere, if it was streamed twice."""
        rows = await self._sites.ask(site, site.catalogue.rows_of(version.instance), even_down=True)
        keys = (row.version.key for row in rows if row.version.digest == version.digest)
        return next(keys, version.key)


def _time_s() -> float:
    return asyncio.get_running_loop().time()


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
