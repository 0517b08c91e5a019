"""Are the sites as the settings say? Each answer is a line that names the site and the setting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from deploy import catalogues, record, sites
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cluster.nouns import SiteIdentity
    from cluster.settings import Settings, Site
    from deploy.record import Records, SiteRecord

CLOCK_TOLERANCE_S: Final = 5.0
"""How far a site's clock may be off: S3 refuses requests from some minutes on."""

_TIMEOUT_S: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """What was found out about one site."""

    name: str
    problems: tuple[str, ...]
    """A line each."""
    is_there: bool = False
    """Whether both halves can be asked, and are this site's: what else is wrong loses nothing."""
    shared_with: str | None = None
    """Another site of the cluster whose objects these are: the two are one failure unit, not two."""


async def check(settings: Settings, names: Collection[str]) -> tuple[SiteCheck, ...]:
    """Look at sites, at once.

    Raises
    ------
    UserError
        There is no cluster in the data folder.
    """
    records = record.known(settings)
    chosen = [site for site in settings.sites if site.name in names]
    return tuple(await asyncio.gather(*(_check(site, records) for site in chosen)))


async def at_start(settings: Settings) -> None:
    """Upgrade the catalogues, and log what is wrong with sites that are at a server, a line each.

    A cluster starts without a site, so little of this keeps it from starting: that one site's objects are
    those of another, as what counts as two copies is one then; and that a catalogue is of a newer Atria.

    Raises
    ------
    UserError
        Two sites are the same, or a catalogue is of a newer Atria.
    """
    await asyncio.to_thread(catalogues.upgrade_all, settings)
    found = await check(settings, {site.name for site in settings.sites if site.is_s3 or site.is_postgresql})
    for one in found:
        for problem in one.problems:
            log.warning("site.wrong", site=one.name, why=problem)
    refuse_shared(found)


def refuse_shared(found: Iterable[SiteCheck]) -> None:
    """Refuse to go on with two sites that are the same.

    Raises
    ------
    UserError
    """
    for one in found:
        if one.shared_with is not None:
            raise UserError(one.problems[0])


async def _check(site: Site, records: Records) -> SiteCheck:
    problems: list[str] = []
    is_there = False
    one = records[site.name]
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            if (reason := await differs(site, one.identity)) is not None:
                if (other := await _is_that_of(site, records)) is not None:
                    return SiteCheck(site.name, (_shared(site, other),), shared_with=other)
                hint = await _hint(site, one) if one.made else ""
                problems.append(f"site {site.name}: {reason}{hint}")
            elif site.is_s3:
                problems += await _bucket_problems(site)
            if not one.made:
                what, how = _unfinished(one)
                problems.append(
                    f"site {site.name}: it was not {what} to the end: go on with `atria {how} {site.name}`"
                )
            else:
                lacking = await catalogue_problems(site, one.identity)
                problems += lacking
                is_there = reason is None and not lacking
    except TimeoutError:
        problems.append(f"site {site.name}: no answer within {_TIMEOUT_S:g} s")
    return SiteCheck(site.name, tuple(problems), is_there)


def _unfinished(one: SiteRecord) -> tuple[str, str]:
    """Return what was begun with a site, and the command that goes on with it."""
    if one.rebuilding:
        return "rebuilt", "catalogue rebuild"
    return ("replaced", "site replace") if one.filling else ("made", "site init")


async def _hint(site: Site, one: SiteRecord) -> str:
    """Return what may be done, where the site's place can be asked and holds nothing of anybody else."""
    try:
        await asyncio.to_thread(sites.may_renew, site, one.identity)
    except UserError:
        return ""
    return f"; if it has lost what it held: `atria site replace {site.name}`"


async def differs(site: Site, identity: SiteIdentity) -> str | None:
    """Return why the objects are not those of that identity, or None if they are."""
    from storage_node.site.protocol import SiteUnavailable

    objects = sites.open_objects(site, identity)
    try:
        await objects.identity()
    except SiteUnavailable as error:
        return error.reason
    finally:
        await objects.close()
    return None


async def _is_that_of(site: Site, records: Records) -> str | None:
    for name, one in records.items():
        if name != site.name and await differs(site, one.identity) is None:
            return name
    return None


def _shared(site: Site, other: str) -> str:
    where = "objects, endpoint" if site.is_s3 else "objects"
    return (
        f"site {site.name}: its objects are those of site {other}, so that two copies would be one:"
        f" name another place in the settings ({where})"
    )


async def _bucket_problems(site: Site) -> list[str]:
    from prometheus_client import REGISTRY

    from deploy import s3
    from storage_node.site.protocol import SiteUnavailable

    try:
        problems = await asyncio.to_thread(s3.problems, site)
    except SiteUnavailable as error:
        problems = [str(error)]
    offset_s = REGISTRY.get_sample_value("atria_site_clock_offset_seconds", {"site": site.name}) or 0.0
    if abs(offset_s) > CLOCK_TOLERANCE_S:
        way = "ahead of" if offset_s > 0 else "behind"
        problems.append(
            f"site {site.name}: the clock of {site.endpoint} (endpoint) is {abs(offset_s):.0f} s {way} ours"
        )
    return problems


async def catalogue_problems(site: Site, identity: SiteIdentity) -> list[str]:
    """Return what is wrong with a catalogue that is to be of that identity, a line each."""
    from storage_node.catalogue.protocol import CatalogueUnavailable

    if problems := catalogues.problems(site):
        return problems
    catalogue = catalogues.open_catalogue(site, identity)
    try:
        await catalogue.identity()
    except CatalogueUnavailable as error:
        return [f"site {site.name}: catalogue: {error.reason}"]
    finally:
        await catalogue.close()
    return []
