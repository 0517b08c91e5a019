"""What there is of a cluster, and how it is: read from the registry, each process, and each site."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from deploy import compose, minio, minio_sites, pages

if TYPE_CHECKING:
    from cluster.coordination.protocol import Member
    from cluster.settings import Settings
    from deploy.minio_sites import RunningServer
    from storage_node.catalogue.protocol import Counts
    from storage_node.grid.sites import GridSite


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the cluster."""

    kind: str
    name: str
    state: str
    """`ready`, or why it is not."""
    dicom: str | None
    http: str
    pid: int
    started_at: str
    associations: int | None


@dataclass(frozen=True, slots=True)
class SiteState:
    """One site, and what it holds."""

    name: str
    state: str
    """`up`, `filling` (it takes writes and has no vote), or why it is down."""
    held: Counts | None = None
    """What its catalogue says that it holds; `debts` are those of *other* sites."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A cluster at one moment."""

    data_folder: str
    processes: tuple[Process, ...]
    sites: tuple[SiteState, ...]

    @property
    def runs(self) -> bool:
        """Whether somebody would answer a modality."""
        return any(process.kind == "balancer" for process in self.processes)

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"runs": self.runs, **asdict(self)}


async def look(settings: Settings) -> Overview:
    """Ask everybody, at once.

    Raises
    ------
    UserError
        There is no cluster in the data folder.
    """
    opened = compose.open_sites(settings)
    try:
        members = await compose.members(settings)
        processes = await asyncio.gather(
            *(_process(member) for member in members),
            *(_server(server) for server in minio_sites.running(settings)),
        )
        sites = await asyncio.gather(*(_site(site, settings.writing.site_timeout_s) for site in opened))
    finally:
        await asyncio.gather(*(half.close() for site in opened for half in (site.objects, site.catalogue)))
    return Overview(str(settings.data_folder), tuple(processes), tuple(sites))


async def _process(member: Member) -> Process:
    associations = None
    try:
        state = (await pages.fetch(member.http, "/readyz")).body.decode("utf-8", "replace").strip()
        associations = (await pages.fetch(member.http, "/status")).json().get("associations")
    except pages.NoPage as error:
        state = str(error)
    return Process(
        member.kind,
        member.name,
        state,
        None if member.dicom is None else str(member.dicom),
        str(member.http),
        member.pid,
        member.started_at.isoformat(timespec="seconds"),
        associations,
    )


async def _server(server: RunningServer) -> Process:
    return Process(
        "minio",
        f"minio-{server.site}",
        "ready" if await minio.is_ready(server.address) else f"{server.address} does not answer",
        None,
        str(server.address),
        server.pid,
        server.started_at.isoformat(timespec="seconds"),
        None,
    )


async def _site(site: GridSite, timeout_s: float) -> SiteState:
    from storage_node.catalogue.protocol import CatalogueUnavailable
    from storage_node.site.protocol import SiteUnavailable

    try:
        async with asyncio.timeout(timeout_s):
            one, other = await site.objects.identity(), await site.catalogue.identity()
            if one != other:
                return SiteState(site.name, "its objects and its catalogue are of different sites")
            counts = await site.catalogue.counts()
    except (SiteUnavailable, CatalogueUnavailable) as error:
        return SiteState(site.name, error.reason)
    except TimeoutError:
        return SiteState(site.name, f"no answer within {timeout_s:g} s")
    return SiteState(site.name, "filling" if site.membership.filling else "up", counts)
