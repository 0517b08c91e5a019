"""What there is of a cluster, and how it is: read from the registry, each process, and each site."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from deploy import compose, own_sites, pages

if TYPE_CHECKING:
    from cluster.coordination.registry import Member
    from cluster.settings import Settings
    from deploy.own_servers import RunningServer
    from storage_node.catalogue.protocol import Counts
    from storage_node.grid.sites import GridSite

SiteViews: TypeAlias = Mapping[str, Mapping[str, object]]
"""What one process knows of each site: its health as JSON values, by the site's name."""

_ANSWER_TIMEOUT_S: Final = 3.0
"""How long a site may take to say which one it is: who looks because something hangs has no time."""


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
    leads: bool | None = None
    """Whether a balancer holds the service address; None where there is no other that could."""
    holds_by: str | None = None
    """Whether it leads by its `lease` in etcd, or by the `promises` of the others."""


@dataclass(frozen=True, slots=True)
class SiteState:
    """One site, and what it holds."""

    name: str
    state: str
    """`up`, `filling` (it takes writes and has no vote), or why it is down; and who finds it otherwise."""
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
        processes, servers, sites = await asyncio.gather(
            asyncio.gather(*(_process(member) for member in members)),
            asyncio.gather(*(_server(settings, server) for server in own_sites.running(settings))),
            asyncio.gather(*(_site(site, settings.writing.site_timeout_s) for site in opened)),
        )
    finally:
        await asyncio.gather(*(half.close() for site in opened for half in (site.objects, site.catalogue)))
    views = {process.name: view for process, view in processes}
    return Overview(
        str(settings.data_folder),
        (*(process for process, _ in processes), *servers),
        tuple(with_views(site, views) for site in sites),
    )


def with_views(site: SiteState, views: Mapping[str, SiteViews]) -> SiteState:
    """Add what the cluster's processes know better of a site that answers: it is full, say.

    Parameters
    ----------
    site : SiteState
    views : mapping of str to mapping
        The `sites` of each process's `/status`, by the process's name.
    """
    if site.held is None:
        return site
    for process, sites in views.items():
        view = sites.get(site.name, {})
        if view.get("state", "up") not in ("up", "filling"):
            state = str(view["state"]).replace("_", "-")
            return replace(site, state=f"{site.state}, but {state} to {process}: {view.get('why')}")
    return site


async def _process(member: Member) -> tuple[Process, SiteViews]:
    page: dict[str, Any] = {}
    try:
        state = (await pages.fetch(member.http, "/readyz")).body.decode("utf-8", "replace").strip()
        page = (await pages.fetch(member.http, "/status")).json()
    except pages.NoPage as error:
        state = str(error)
    return process_of(member, state, page), page.get("sites", {})


def process_of(member: Member, state: str, page: Mapping[str, Any]) -> Process:
    """Return what a process says of itself.

    Parameters
    ----------
    member : Member
    state : str
        `ready`, or why it is not.
    page : mapping
        Its `/status`; empty where it gives none.
    """
    leadership = page.get("leadership", {})
    return Process(
        member.kind,
        member.name,
        state,
        None if member.dicom is None else str(member.dicom),
        str(member.http),
        member.pid,
        member.started_at.isoformat(timespec="seconds"),
        page.get("associations"),
        leadership.get("leads"),
        leadership.get("holds_by"),
    )


async def _server(settings: Settings, server: RunningServer) -> Process:
    return Process(
        server.server.PRODUCT.lower(),
        server.name,
        "ready"
        if await server.server.is_ready()
        else f"not ready: see {settings.logs_folder / f'{server.name}.log'}",
        None,
        str(server.server.address),
        server.pid,
        server.started_at.isoformat(timespec="seconds"),
        None,
    )


async def _site(site: GridSite, timeout_s: float) -> SiteState:
    from storage_node.catalogue.protocol import CatalogueUnavailable
    from storage_node.site.protocol import SiteUnavailable

    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S) as limit:
            one, other = await site.objects.identity(), await site.catalogue.identity()
            if one != other:
                return SiteState(site.name, "its objects and its catalogue are of different sites")
            limit.reschedule(asyncio.get_running_loop().time() + timeout_s)
            counts = await site.catalogue.counts()
    except (SiteUnavailable, CatalogueUnavailable) as error:
        return SiteState(site.name, error.reason)
    except TimeoutError:
        return SiteState(site.name, "it does not answer in time")
    return SiteState(site.name, "filling" if site.membership.filling else "up", counts)
