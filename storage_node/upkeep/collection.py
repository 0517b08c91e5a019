"""Collection removes what no row names: objects of writes that were not acknowledged, and unfinished uploads.

The row of a version that was purged names nothing (`storage_node.upkeep.purging`).

That it never takes what was acknowledged, or is about to be:

1. All sites are up and none is being filled, or nothing is removed. A key is garbage only if no catalogue of
   any site names it: where another site's row does, this one is owed the copy, and repair will put it there.
   A manifest is kept as long as a row of its version was streamed, and so is what a manifest names that is
   kept. Keys that are not made as Atria makes them, and facts, are never touched.
2. An object is *first* looked at (`head` gives its S3 version id and its age), *then* the rows are read, and
   *then* exactly that S3 version is removed. What a writer puts at the same key after the look has another
   version id, and stays (design, rule 7).
3. What was put before the look is young if its writer may still add the row: a write ends, acknowledged or
   refused, within seconds of its puts, after a few time limits of a site, and the grace is an hour at least.
   So an object that is older than the grace was put by a writer that has ended. If that one added a row, it
   was there before the rows were read; if not, none will come for this object: whoever sends the instance
   again, an old orphan, say, puts it anew first, as only a row that is there saves a put (design, rule 6).
   That put is either before the look, which then sees a young object, or after it, which is case 2.
4. A purge counts once it has settled: each site has known of it for longer than any decision takes
   (`storage_node.upkeep.purged`). The facts are read after the look, too. Whoever was told that the instance
   is there decided so before, and at W sites: a revival of the purge's own epoch then holds over it, and no
   bytes go. Or he knew of the purge, and that can only be who stored the instance again (a decision by hand
   is refused): what he put is young, or came after the look, as in case 3; what he was told rests on it, as
   no acknowledgement comes later than `FRESH_S` after the put; and W sites know by then that the version is
   back, so that its row names it again. Other versions of the instance, which did not come back, stay gone:
   the row of what came back is above theirs, and no answer names them.

The age is the store's clock against ours. A clock that is wrong by less than the grace does no harm.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from storage_node.grid import keys, manifest
from storage_node.grid.paged import asked
from storage_node.grid.sites import SiteFailed
from storage_node.site.protocol import ObjectFault, ObjectMissing
from storage_node.upkeep.notes import FOUND, MENDED
from storage_node.upkeep.pace import all_of
from storage_node.upkeep.presence import NotNow, all_voting
from storage_node.upkeep.purged import SettledPurges
from storage_node.upkeep.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.settings import Upkeep
    from storage_node.catalogue.protocol import Entry
    from storage_node.grid.grid import Grid
    from storage_node.grid.sites import GridSite
    from storage_node.site.protocol import StoredObject
    from storage_node.upkeep.rounds import Progress
    from storage_node.upkeep.studies import Name

_VERSION_KEY: Final = re.compile(r"[^_/][^/]*/[^/]+/[^/]+/[0-9a-f]{32,64}(~[0-9a-f]+)?\.(dcm|json)")
"""What the keys of versions and manifests look like; and of streams that began without an instance:"""
_STREAM_KEY: Final = re.compile(rf"{keys.STREAMS}/[0-9a-f]{{32}}\.dcm")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one run removed."""

    looked_at: int = 0
    """Objects that were listed, at all sites."""
    removed: int = 0
    """Objects that no row named."""
    kept: int = 0
    """Those of them that could not be removed, as the store would not."""
    uploads: int = 0
    """Uploads that were never finished, and were removed."""
    why_not: str = ""
    """Why objects were not looked at, or not all; empty when they were."""


@dataclass(slots=True)
class _Named:
    """What the rows of all sites name, of one study or of all."""

    keys: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)
    """What the keys of manifests begin with, of versions that were streamed."""

    def __contains__(self, key: str) -> bool:
        return key in self.keys or (
            key.endswith(".json") and f"{key.rpartition('/')[0]}/{keys.digest_in(key)}" in self.manifests
        )


@dataclass(slots=True)
class _Tally:
    progress: Progress | None
    looked_at: int = 0
    removed: int = 0
    kept: int = 0

    def looked(self, objects: int) -> None:
        self.looked_at += objects
        if self.progress is not None:
            self.progress(self.looked_at, self.looked_at)


class Collection:
    """Removes garbage. Any number may run at once."""

    def __init__(self, grid: Grid, upkeep: Upkeep) -> None:
        self._sites = grid.sites
        self._now = grid.now
        self._purges = SettledPurges(grid.sites, grid.now)
        self._interval_s = upkeep.collection_interval_s
        self._grace = timedelta(hours=upkeep.orphan_grace_h)
        self.rounds = Rounds("collection", self.run_once, grid.now)

    async def run_forever(self) -> None:
        """Collect again and again, until cancelled."""
        await self.rounds.run_forever(self._interval_s)

    async def run_once(self, progress: Progress | None = None) -> Report:
        """Collect at all sites; uploads at those that are up, objects only if all are."""
        before = self._now() - self._grace
        tally = _Tally(progress)
        self._purges.begin_round()
        uploads = sum(await all_of(self._sweep(site, before) for site in self._sites.up()))
        why_not = ""
        try:
            for site in all_voting(self._sites):
                await self._collect(site, before, tally)
        except NotNow as reason:
            why_not = str(reason)
            log.warning("collection.interrupted", reason=why_not)
        if tally.removed or uploads:
            log.info("collection.done", removed=tally.removed, uploads=uploads)
        return Report(tally.looked_at, tally.removed, tally.kept, uploads, why_not)

    async def _sweep(self, site: GridSite, before: datetime) -> int:
        try:
            swept = await self._sites.ask(site, site.objects.sweep(before))
        except SiteFailed as error:
            log.warning("collection.not_swept", site=site.name, reason=error.reason)
            return 0
        FOUND.labels(kind="upload", site=site.name).inc(swept)
        MENDED.labels(kind="upload", site=site.name).inc(swept)
        return swept

    async def _collect(self, site: GridSite, before: datetime, tally: _Tally) -> None:
        try:
            async with aclosing(asked(self._sites, site, site.objects.folders())) as folders:
                async for folder in folders:
                    if folder != keys.FACTS:
                        await self._collect_folder(site, folder, before, tally)
        except SiteFailed as error:
            raise NotNow(str(error)) from error

    async def _collect_folder(self, site: GridSite, folder: str, before: datetime, tally: _Tally) -> None:
        """Remove what is garbage in one folder: that of a study, as a rule."""
        pattern = _STREAM_KEY if folder == keys.STREAMS else _VERSION_KEY
        old: list[str] = []
        async with aclosing(asked(self._sites, site, site.objects.list(f"{folder}/"))) as objects:
            async for found in objects:
                tally.looked(1)
                if found.modified_at < before and pattern.fullmatch(found.key):
                    old.append(found.key)
        if old:
            old = await self._unnamed(site, folder, old)
        examined = [one for key in old if (one := await self._examine(site, key, before)) is not None]
        if examined:
            garbage = set(await self._unnamed(site, folder, [found.key for found in examined]))
            # The manifest goes first: without its object it would name nothing.
            examined.sort(key=lambda one: (not one.key.endswith(".json"), one.key))
            for one in examined:
                if one.key in garbage:
                    await self._remove(site, one, tally)

    async def _examine(self, site: GridSite, key: str, before: datetime) -> StoredObject | None:
        """Return what may be removed, if it is there, and old: exactly that S3 version."""
        try:
            found = await self._sites.ask(site, site.objects.head(key))
        except ObjectMissing:
            return None
        except ObjectFault as fault:
            log.warning("collection.unreadable", site=site.name, key=key, reason=str(fault))
            return None
        return found if found.modified_at < before else None

    async def _remove(self, site: GridSite, found: StoredObject, tally: _Tally) -> None:
        all_voting(self._sites)
        FOUND.labels(kind="orphan", site=site.name).inc()
        try:
            await self._sites.ask(site, site.objects.delete(found.key, found.version_id))
        except ObjectFault as fault:
            log.warning("collection.not_removed", site=site.name, key=found.key, reason=str(fault))
            tally.kept += 1
            return
        log.info("collection.removed", site=site.name, key=found.key, modified_at=str(found.modified_at))
        MENDED.labels(kind="orphan", site=site.name).inc()
        tally.removed += 1

    async def _unnamed(self, site: GridSite, folder: str, found: list[str]) -> list[str]:
        """Return those keys that no row at any site names, nor a manifest here that is kept."""
        named = await self._named(folder)
        unnamed = [key for key in found if key not in named]
        if not unnamed or not named.manifests:
            return unnamed
        for stem in sorted(named.manifests):
            listed = [one.key async for one in asked(self._sites, site, site.objects.list(stem))]
            for key in listed:
                if key.endswith(".json"):
                    named.keys.add(await self._key_in(site, key))
        return [key for key in unnamed if key not in named]

    async def _key_in(self, site: GridSite, key: str) -> str:
        """Return the key of the object that a manifest makes a copy; empty if it cannot be read."""
        try:
            version, _ = manifest.decode(await self._sites.ask(site, site.objects.get(key)))
        except (ObjectMissing, ObjectFault, ValueError) as error:
            log.warning("collection.manifest_unreadable", site=site.name, key=key, reason=str(error))
            return ""
        return version.key

    async def _named(self, folder: str) -> _Named:
        """Return what the rows name, at all sites, in a folder; of `_streams`, in all of them.

        Raises
        ------
        NotNow
            Not every site says so.
        """
        named = _Named()
        study = keys.study_of(folder)
        studies: Iterable[str | None] = (study,)
        if study is None and folder != keys.STREAMS:
            studies = await self._cut(folder)
        try:
            for uid in studies:
                await self._name(folder, uid, named)
        except SiteFailed as error:
            raise NotNow(str(error)) from error
        return named

    async def _name(self, folder: str, study: str | None, named: _Named) -> None:
        """Add what the rows of a study name in a folder; or, in `_streams`, those of all studies."""
        gone: dict[str, frozenset[Name]] = {}

        async def has_gone(entry: Entry) -> bool:
            uid = entry.instance.study_instance_uid
            if uid not in gone:
                gone[uid] = await self._purges.of_study(uid)
            return (entry.instance, entry.digest) in gone[uid]

        for site in all_voting(self._sites):
            async for entry in asked(self._sites, site, site.catalogue.walk(study)):
                is_here = entry.key.startswith(f"{folder}/")  # in `_streams`, that is few of very many
                if (is_here or study is not None) and await has_gone(entry):
                    continue
                if is_here:
                    named.keys.add(entry.key)
                if entry.is_streamed:
                    key = keys.manifest_key(entry.instance, entry.digest)
                    named.manifests.add(key.removesuffix(".json"))

    async def _cut(self, folder: str) -> list[str]:
        """Return the studies whose UIDs were cut to the name of this folder (`keys.file_name`)."""
        uids: set[str] = set()
        for site in all_voting(self._sites):
            try:
                async for summary in asked(self._sites, site, site.catalogue.studies()):
                    if keys.study_folder(summary.study_instance_uid) == folder:
                        uids.add(summary.study_instance_uid)
            except SiteFailed as error:
                raise NotNow(str(error)) from error
        return sorted(uids)
