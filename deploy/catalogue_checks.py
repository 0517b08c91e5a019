"""Are the sites' catalogues as they should be? Each answer is a line that names the site."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from deploy import catalogues, record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster.settings import Settings, Site
    from deploy.record import SiteRecord
    from storage_node.catalogue.examination import Examined
    from storage_node.catalogue.protocol import Counts, StudySummary

SAMPLE: Final = 100
"""Studies that are looked into at each site when not all are."""
_NAMED: Final = 10
"""Studies that are named in a problem."""
_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class CatalogueCheck:
    """What was found out about one site's catalogue."""

    name: str
    catalogue: str
    """Where it is."""
    generation: int | None = None
    """Of the site that it says it is of."""
    revision: str = ""
    """Of its schema."""
    settings: Mapping[str, str] | None = None
    """Those of the database that matter."""
    counts: Counts | None = None
    studies_compared: int = 0
    """Studies of which all that is derived was worked out anew."""
    differing: tuple[str, ...] = ()
    """Those of them of which it was something else."""
    problems: tuple[str, ...] = ()
    """A line each."""

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return asdict(self)


async def check(
    settings: Settings,
    chosen: Sequence[Site],
    *,
    everything: bool,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CatalogueCheck, ...]:
    """Look at the catalogues of some sites, one after the other.

    Parameters
    ----------
    settings : Settings
    chosen : sequence of Site
    everything : bool
        Whether to look into each study, and not into some that are chosen by chance.
    progress : callable, optional
        Told how many studies were looked into at a site, and of how many.

    Raises
    ------
    UserError
        There is no cluster in the data folder.
    """
    records = record.known(settings)
    return tuple(
        [await _check(site, records[site.name], everything=everything, progress=progress) for site in chosen]
    )


async def _check(
    site: Site, one: SiteRecord, *, everything: bool, progress: Callable[[int, int], None] | None
) -> CatalogueCheck:
    from storage_node.catalogue.protocol import CatalogueUnavailable

    found = CatalogueCheck(site.name, site.catalogue)
    if problems := catalogues.problems(site):
        return replace(found, problems=tuple(problems))
    try:
        examined = await catalogues.examine(site, thoroughly=everything)
        found = _with(found, site, one, examined)
        if examined.identity == one.identity and examined.revision == examined.known_revision:
            found = await _look_into(found, site, one, everything=everything, progress=progress)
    except CatalogueUnavailable as error:
        found = replace(found, problems=(*found.problems, f"site {site.name}: {error.reason}"))
    return found


def _with(found: CatalogueCheck, site: Site, one: SiteRecord, examined: Examined) -> CatalogueCheck:
    """Add what the database says, and what of it is wrong."""
    problems = [f"site {site.name}: {problem}" for problem in examined.problems]
    known, revision = examined.known_revision, examined.revision
    if examined.identity is None:
        problems.append(f"site {site.name}: {site.catalogue} holds no catalogue{_how_to_make(site, one)}")
    elif examined.identity != one.identity:
        whose = f"site {examined.identity.name}, {examined.identity.site_id}"
        problems.append(
            f"site {site.name}: {site.catalogue} is of {whose}, generation {examined.identity.generation},"
            f" and not of {one.identity.site_id}, generation {one.identity.generation}"
        )
    elif revision < known:
        problems.append(
            f"site {site.name}: it has schema {revision or 'none'}, and this release needs {known}:"
            f" `atria catalogue upgrade {site.name}`"
        )
    elif revision > known:
        problems.append(
            f"site {site.name}: it has schema {revision}, and this release knows up to {known}:"
            " a newer Atria has upgraded it"
        )
    if one.rebuilding:
        how = f"`atria catalogue rebuild {site.name}`"
        problems.append(f"site {site.name}: it was not rebuilt to the end yet: {how} goes on")
    return replace(
        found,
        generation=None if examined.identity is None else examined.identity.generation,
        revision=revision,
        settings=examined.settings,
        problems=tuple(problems),
    )


def _how_to_make(site: Site, one: SiteRecord) -> str:
    if one.made or one.filling:
        return f": if it has lost it, `atria catalogue rebuild {site.name}`"
    return f": `atria site init {site.name}`"


async def _look_into(
    found: CatalogueCheck,
    site: Site,
    one: SiteRecord,
    *,
    everything: bool,
    progress: Callable[[int, int], None] | None,
) -> CatalogueCheck:
    """Compare studies with what follows from their rows and facts.

    Raises
    ------
    CatalogueUnavailable
    """
    from storage_node.catalogue import consistency

    catalogue = catalogues.open_catalogue(site, one.identity)
    try:
        chance = random.Random()  # noqa: S311  # no secret: a sample
        studies = await consistency.some_studies(catalogue, None if everything else SAMPLE, chance)
        waiting = iter(studies)
        differing: list[str] = []
        done = 0

        async def compare() -> None:
            nonlocal done
            for study in waiting:
                if not await consistency.is_consistent(catalogue, study, one.identity):
                    differing.append(study.study_instance_uid)
                done += 1
                if progress is not None:
                    progress(done, len(studies))

        await asyncio.gather(*(compare() for _ in range(_AT_ONCE)))
        counts = await catalogue.counts()
    finally:
        await catalogue.close()
    return replace(
        found,
        counts=counts,
        studies_compared=len(studies),
        differing=tuple(sorted(differing)),
        problems=(*found.problems, *_differences(site, sorted(differing), studies)),
    )


def _differences(site: Site, differing: Sequence[str], studies: Sequence[StudySummary]) -> list[str]:
    if not differing:
        return []
    named = ", ".join(differing[:_NAMED]) + (", …" if len(differing) > _NAMED else "")
    told = f"{len(differing)} of {len(studies)} studies are not what follows from their rows ({named})"
    return [f"site {site.name}: {told}: `atria catalogue rebuild {site.name}`"]
