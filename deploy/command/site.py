"""`atria site`: make sites, look at them, replace a lost one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.cluster import settings_of
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.nouns import SiteIdentity
    from cluster.settings import Settings, Site
    from deploy.checks import SiteCheck
    from deploy.record import SiteRecord
    from storage_node.grid.health import SiteHealth
    from storage_node.upkeep.fill import Report

app = typer.Typer(
    help="Make sites, look at them, replace a lost one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Sites; all without any.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The site.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Do it though the site has lost nothing, or though another is not well: what only these two hold"
        " is lost.",
    ),
]


@app.command("init")
def init(
    names: Names = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Make sites that were never made: buckets (versioned, with object lock) or folders, and catalogues.

    What was made is left alone. A site that is in its places already, both halves of which say the same, is
    used as it is. A bucket or folder that holds anything else is refused, and not touched.

    --json prints what `atria site check` does.

    [bold]Examples[/]

      atria site init --config atria.toml

      atria site init c --config atria.toml
    """
    from deploy import making, record

    settings = settings_of(config, data, may_be_new=True)
    among = chosen(settings, names)
    for said in making.init(settings, {site.name for site in among}):
        typer.echo(said, err=True)
    if unmade := record.unmade(record.known(settings)):
        typer.echo(f"Still to be made: {', '.join(unmade)}.", err=True)
    _report(settings, run(_check(settings, among)), as_json=as_json)


@app.command("check")
def check(
    names: Names = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Answer: is each site as the settings say that it is? Exits 1 when not.

    It asks each bucket with the site's credentials, and looks whose it is, whether it is versioned and has
    object lock, and how far its clock is off.

    [bold]Examples[/]

      atria site check

      atria site check b --config atria.toml
    """
    settings = settings_of(config, data, may_be_new=config is not None)
    _report(settings, run(_check(settings, chosen(settings, names))), as_json=as_json)


@app.command("list")
def list_sites(
    config: options.Config = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """Show the sites: where each is, its generation, and its place in the cluster.

    [bold]Examples[/]

      atria site list

      atria site list --json
    """
    from rich import box
    from rich.table import Table

    from deploy import record

    settings = settings_of(config, data)
    records = record.known(settings)
    if as_json:
        print(json.dumps([_entry(site, records[site.name]) for site in settings.sites]))
        return
    table = Table("site", "generation", "state", "objects", "catalogue", box=box.SIMPLE_HEAD)
    for site in settings.sites:
        one = records[site.name]
        table.add_row(site.name, str(one.identity.generation), _place(one), _where(site), site.catalogue)
    console().print(table)


@app.command("replace")
def replace(
    name: Name,
    yes: options.Yes = False,
    force: Force = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Make a site anew that lost its state, and fill it from the others.

    The cluster works on meanwhile. The site takes writes, and has no vote until it has everything. Objects
    of the site that are still there stay; its catalogue is moved aside. Ctrl-C does no harm: `atria upkeep`
    goes on filling it, and so does this command when it is called again.

    --json prints the site as `atria site list` does, and `replaced`: whether there was anything to do.

    [bold]Examples[/]

      atria site replace c

      atria site replace c --yes
    """
    from deploy import making, record

    settings = settings_of(config, data)
    (site,) = chosen(settings, [name])
    records = record.of_sites(settings)
    is_there = {one.name: one.is_there for one in run(_check(settings, list(settings.sites)))}
    if yes and not force and is_there[name] and not records[name].filling:
        said = f"Site {name} has lost nothing, and is a full member: --force makes it anew anyway."
        _tell_replaced(settings, site, said, replaced=False, as_json=as_json)
        return
    if not (records[name].filling and is_there[name]):
        away = [
            other for other in is_there if other != name and (not is_there[other] or records[other].filling)
        ]
        if away and not force:
            raise UserError(
                f"site {', '.join(away)} is not well, and what only it and site {name} hold would be lost:"
                " mend it first (`atria site check` says what is wrong), or use --force"
            )
        if not yes:
            _ask(site, records[name].identity, is_well=is_there[name])
        making.replace_site(settings, site)
    elif records[name].rebuilding:
        making.go_on_filling(settings, site, rebuilding=False)
    try:
        why_not = run(_fill(settings, name))
    except KeyboardInterrupt:
        raise UserError(
            f"site {name} is not filled yet: `atria upkeep` goes on, and so does `atria site replace {name}`"
        ) from None
    if why_not is not None:
        raise UserError(
            f"site {name} could not be filled to the end: {why_not}: `atria upkeep` goes on when it can"
        )
    said = f"[green]Site {name} has everything, and is a full member again.[/]"
    _tell_replaced(settings, site, said, replaced=True, as_json=as_json)


def _tell_replaced(settings: Settings, site: Site, said: str, *, replaced: bool, as_json: bool) -> None:
    from deploy import record

    if as_json:
        entry = _entry(site, record.of_sites(settings)[site.name])
        print(json.dumps({**entry, "replaced": replaced}))
    else:
        console().print(said)


def _ask(site: Site, identity: SiteIdentity, *, is_well: bool) -> None:
    out = console(stderr=True)
    if is_well:
        out.print(f"[yellow]Site {site.name} has lost nothing: it is as it should be.[/]")
    out.print(f"Site {site.name} (generation {identity.generation}) is made anew:")
    out.print(f"  objects    {_where(site)}: what is there of this site stays, the rest is copied")
    out.print(f"  catalogue  {site.catalogue}: moved aside, and made anew")
    out.print("Until it is filled it has no vote, and no other site should go away.")
    if not typer.confirm(f"Replace site {site.name}?", err=True):
        raise typer.Exit(1)


async def _check(settings: Settings, among: list[Site]) -> tuple[SiteCheck, ...]:
    from deploy import checks

    return await checks.check(settings, {site.name for site in among})


async def _fill(settings: Settings, name: str) -> str | None:
    """Fill a site, and return why it lacks something yet, or None when it has everything."""
    from deploy import compose, record
    from deploy.command.progress import bar
    from deploy.roster import RecordRoster
    from storage_node.upkeep.fill import Fill

    async with compose.running_grid(settings) as grid:
        with bar(f"filling site {name}") as progress:
            report = await Fill(grid, settings.upkeep, RecordRoster(settings)).run_once(progress)
        return hindrance(grid.health(), report) if record.of_sites(settings)[name].filling else None


def hindrance(health: Mapping[str, SiteHealth], report: Report) -> str:
    """Return what keeps a site from being filled, in words."""
    ailing = [
        f"site {name} is {one.state.value.replace('_', '-')} ({one.why})"
        for name, one in health.items()
        if not one.takes_writes
    ]
    if ailing:
        return ", ".join(ailing)
    if report.not_read:
        return f"not all of site {', '.join(report.not_read)} could be read"
    return f"{report.failed} copies could not be made"


def chosen(settings: Settings, names: list[str] | None) -> list[Site]:
    """Return the sites of these names, or all.

    Raises
    ------
    UserError
        There is no such site.
    """
    known = {site.name: site for site in settings.sites}
    if unknown := sorted(set(names or ()) - set(known)):
        raise UserError(f"there is no site {', '.join(unknown)}: the sites are {', '.join(known)}")
    return [site for site in settings.sites if not names or site.name in names]


def _report(settings: Settings, found: tuple[SiteCheck, ...], *, as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        places = {site.name: _where(site) for site in settings.sites}
        table = Table("site", "objects", "found")
        for one in found:
            said = "\n".join(one.problems)
            table.add_row(one.name, places[one.name], f"[red]{said}[/]" if said else "[green]well[/]")
        console().print(table)
    if any(one.problems for one in found):
        raise typer.Exit(1)


def _entry(site: Site, one: SiteRecord) -> dict[str, object]:
    return {**asdict(one), "objects": _where(site), "catalogue": site.catalogue}


def _place(one: SiteRecord) -> str:
    if one.filling:
        command = "atria catalogue rebuild" if one.rebuilding else "atria site replace"
        return ("rebuilding" if one.rebuilding else "filling") if one.made else f"to be made: {command}"
    return "member" if one.made else "to be made: atria site init"


def _where(site: Site) -> str:
    return f"{site.objects} at {site.endpoint}" if site.is_s3 else site.objects
