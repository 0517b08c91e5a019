"""A grid over three sites of folders, whose catalogues can be lost and made anew while it runs."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster.dicom import part10
from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE
from cluster.nouns import Fact, Instance, Level, Provenance
from cluster.settings import Settings, load
from deploy import compose, making
from deploy.roster import RecordRoster
from storage_node.catalogue.matching import Query
from storage_node.catalogue.protocol import Catalogue, Entry, Match, StudySummary
from storage_node.grid.arrival import Stored
from storage_node.grid.description import Description
from storage_node.grid.grid import Grid
from storage_node.upkeep.fill import Fill
from storage_node.upkeep.rebuild import Rebuild, Report
from tests.integration.services.instances import CT, element, instance
from tests.integration.services.node import EXPLICIT
from tests.waiting import soon

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITING = {
    "straggler_grace_s": 60.0,
    "site_timeout_s": 60.0,
    "probe_interval_s": 0.05,
    "probe_timeout_s": 60.0,
    "free_space_low_bytes": 1,
}
"""No site is down, or owed a copy, because the disk that tests share is slow."""


@dataclass(frozen=True)
class Said:
    """All that a catalogue says that another must say, too: not when a copy was verified."""

    entries: tuple[Entry, ...]
    facts: tuple[Fact, ...]
    studies: tuple[StudySummary, ...]
    matches: tuple[Match, ...]
    flags: tuple[tuple[str, ...], ...]


async def said_by(catalogue: Catalogue) -> Said:
    entries = [replace(entry, verified_at=BEGIN) async for entry in catalogue.walk()]
    studies = [summary async for summary in catalogue.studies()]
    facts = [fact for study in studies for fact in await catalogue.facts_in(study.study_instance_uid)]
    matches = [match for level in Level async for match in catalogue.find(Query(level), 10_000)]
    rows = [row for entry in entries for row in await catalogue.rows_of(entry.instance)]
    return Said(
        tuple(entries), tuple(facts), tuple(studies), tuple(matches), tuple(row.flags for row in rows)
    )


@dataclass
class World:
    settings: Settings
    grid: Grid
    stored: int = 0

    def catalogue(self, name: str) -> Catalogue:
        return self.grid.sites[name].catalogue

    async def store(
        self,
        sop: str,
        *,
        study: str = "1.2",
        series: str = "1.2.3",
        more: bytes = b"",
        transfer_syntax: str = EXPLICIT,
        minute: int | None = None,
        streamed: bool = False,
    ) -> Stored:
        """Store an instance, as a worker does with one that arrives; each a minute later than the last."""
        self.stored += 1
        data_set = instance(sop, study=study, series=series, more=more)
        if transfer_syntax == DEFLATED_EXPLICIT_VR_LE:
            compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data_set = compressor.compress(data_set) + compressor.flush()
        meta = part10.file_meta(CT, sop, transfer_syntax)
        limit_bytes = self.settings.limits.header_limit_bytes
        description = Description(CT, transfer_syntax, header_limit_bytes=limit_bytes)
        description.feed(data_set)
        description.header.close()
        received_at = BEGIN + timedelta(minutes=self.stored if minute is None else minute)
        arrival = description.arrival(
            Provenance(received_at, "CT1", "ATRIA", "10.0.0.1:4242"), data_set_offset_bytes=len(meta)
        )
        if not streamed:
            return await self.grid.store(arrival, [meta, data_set])
        async with await self.grid.stream(Instance(study, series, sop)) as stream:
            await stream.write([meta, data_set])
            return await stream.complete(arrival)

    async def until(self, name: str, *, votes: bool) -> None:
        """Wait until a site can be reached, and has its vote, or has none."""
        async with soon(f"{name} is up, and votes: {votes}", seen=self.grid.health):
            await self.grid.sites.wait_until(lambda health: health[name].up and health[name].votes is votes)

    async def lose_catalogue(self, name: str) -> None:
        """Begin to rebuild a site's catalogue, and wait until the grid has the empty one before it."""
        (site,) = (site for site in self.settings.sites if site.name == name)
        await asyncio.to_thread(making.begin_rebuild, self.settings, site)
        await self.until(name, votes=False)

    def new_rebuild(self) -> Rebuild:
        limit_bytes = self.settings.limits.header_limit_bytes
        return Rebuild(self.grid, RecordRoster(self.settings), header_limit_bytes=limit_bytes)

    async def rebuild(self) -> Report:
        report = await self.new_rebuild().run_once()
        async with soon("all is rebuilt", seen=lambda: [site.membership for site in self.grid.sites.up()]):
            await self.grid.sites.wait_until(
                lambda _: not any(self.grid.sites[name].membership.rebuilding for name in report.rebuilt)
            )
        return report

    async def fill(self, name: str) -> None:
        await Fill(self.grid, self.settings.upkeep, RecordRoster(self.settings)).run_once()
        await self.until(name, votes=True)


def pixel_data(length: int = 64) -> bytes:
    return element(0x7FE00010, "OW", bytes(length))


@asynccontextmanager
async def world(folder: Path, catalogues: Sequence[dict[str, object]] | None = None) -> AsyncIterator[World]:
    """Run a grid over three sites of folders, with catalogues in files or elsewhere."""
    tables = [
        {
            "name": name,
            "objects": f"file://{folder}/{name}/objects",
            "catalogue": f"sqlite:///{folder}/{name}/catalogue.sqlite",
            **(catalogues[number] if catalogues else {}),
        }
        for number, name in enumerate("abc")
    ]
    settings = load(None, data_folder=folder / "data", sites=tables, writing=WRITING)
    await asyncio.to_thread(making.prepare, settings)
    async with compose.running_grid(settings) as grid:
        yield World(settings, grid)
