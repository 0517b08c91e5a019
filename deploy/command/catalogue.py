"""`atria catalogue`: look at the sites' catalogues, and make one anew from its site's objects."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.cluster import settings_of
from deploy.command.console import console
from deploy.command.run import keep_silent, run
from deploy.command.site import Names, chosen, hindrance
from deploy.errors import UserError

if TYPE_CHECKING:
    from cluster.settings import Settings, Site
    from deploy.catalogue_checks import CatalogueCheck
    from deploy.record import SiteRecord
    from storage_node.upkeep.rebuild import Report

app = typer.Typer(
    help="Look at the sites' catalogues, bring them up to date, make one anew from its site's objects.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Everything = Annotated[
    bool, typer.Option("--all", help="Look into every study, and read an SQLite file for damage.")
]
Anew = Annotated[
    bool, typer.Option("--anew", help="Begin anew where a rebuild is not finished, instead of going on.")
]
Name = Annotated[str, typer.Argument(metavar="SITE", help="The site.")]


@app.command("check")
def check(
    names: Names = None,
    everything: Everything = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Answer: is each catalogue as it should be? Exits 1 when not.

    It looks whose it is, whether its schema is that of this release, whether its database forgets nothing,
    and whether what it tells of studies follows from its rows and facts: of some studies, or of all.

    [bold]Examples[/]

      atria catalogue check

      atria catalogue check b --all --json
    """
    settings = settings_of(config, data)
    found = run(_check(settings, chosen(settings, names), everything=everything))
    if as_json:
        print(json.dumps([one.to_json() for one in found]))
    else:
        _print_checks(found)
    if any(one.problems for one in found):
        raise typer.Exit(1)


async def _check(settings: Settings, among: list[Site], *, everything: bool) -> tuple[CatalogueCheck, ...]:
    from deploy import catalogue_checks
    from deploy.command.progress import bar

    with bar("looking into studies") as progress:
        return await catalogue_checks.check(settings, among, everything=everything, progress=progress)


def _print_checks(found: tuple[CatalogueCheck, ...]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    columns = ("site", "generation", "schema", "studies", "instances", "versions", "compared", "found")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for one in found:
        counts = one.counts
        numbers = ("", "", "") if counts is None else (counts.studies, counts.instances, counts.versions)
        said = "\n".join(one.problems)
        table.add_row(
            one.name,
            str(one.generation or ""),
            one.revision,
            *map(str, numbers),
            str(one.studies_compared),
            f"[red]{escape(said)}[/]" if said else "[green]well[/]",
        )
    out = console()
    out.print(table)
    for one in found:
        if one.settings:
            said = ", ".join(f"{name} {value}" for name, value in one.settings.items())
            out.print(f"{one.name}: {one.catalogue}: {said}", highlight=False, markup=False)


@app.command("upgrade")
def upgrade(
    names: Names = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Bring catalogues to the schema of this release: one site, or all, one after the other.

    Nothing is dropped that holds rows. Processes may be at work meanwhile: those of this release go on by
    themselves. `atria up` does this when it starts; where each process is started by itself, this is done
    once when a new release was installed, before its processes are started.

    --json prints those that have this release's schema: `name`, and the schema `before` and `now`.

    [bold]Examples[/]

      atria catalogue upgrade

      atria catalogue upgrade b --config atria.toml
    """
    from deploy import catalogues, record
    from storage_node.catalogue.protocol import CatalogueUnavailable

    settings = settings_of(config, data)
    record.known(settings)
    keep_silent()
    among = chosen(settings, names)
    upgraded: list[dict[str, object]] = []
    for site in among:
        try:
            done = catalogues.upgrade(site)
        except CatalogueUnavailable as error:
            typer.echo(f"atria: {error}", err=True)
            continue
        upgraded.append({"name": site.name, "before": done.before, "now": done.now})
        if not as_json:
            changed = done.before != done.now
            told = f"from schema {done.before} to {done.now}" if changed else f"had schema {done.now} already"
            console().print(f"site {site.name}: {'upgraded ' if changed else ''}{told}", highlight=False)
    if as_json:
        print(json.dumps(upgraded))
    if len(upgraded) < len(among):
        raise typer.Exit(1)


@app.command("rebuild")
def rebuild(
    name: Name,
    yes: options.Yes = False,
    anew: Anew = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Make a site's catalogue anew from the site's own objects, and from what the other catalogues know.

    The catalogue of before is moved aside, never removed. The cluster works on meanwhile: the site takes
    writes, and has no vote until it has everything. Ctrl-C does no harm: `atria upkeep` goes on, and so does
    this command when it is called again. Exits 1 when copies could not be read, or the site is not yet a full
    member.

    [bold]Examples[/]

      atria catalogue rebuild b

      atria catalogue rebuild b --yes
    """
    from deploy import making, record

    settings = settings_of(config, data)
    (site,) = chosen(settings, [name])
    one = record.of_sites(settings)[name]
    is_well = run(_look(site, one))
    if one.filling and is_well and not anew:
        making.go_on_filling(settings, site, rebuilding=True)
    else:
        if not yes:
            _ask(site, is_well=is_well)
        renewed = making.begin_rebuild(settings, site)
        if renewed.former_catalogue is not None:
            typer.echo(f"The catalogue of before is kept: {renewed.former_catalogue}", err=True)
    try:
        report, why_not = run(_rebuild(settings, name))
    except KeyboardInterrupt:
        raise UserError(
            f"site {name} is not rebuilt yet: `atria upkeep` goes on, and so does"
            f" `atria catalogue rebuild {name}`"
        ) from None
    if as_json:
        print(json.dumps({**asdict(report), "is_member": why_not is None, "why_not": why_not}))
    else:
        _print(name, report, why_not)
    if why_not is not None or report.unreadable:
        raise typer.Exit(1)


async def _look(site: Site, one: SiteRecord) -> bool:
    """Return whether a site's catalogue is there and is its own.

    Raises
    ------
    UserError
        The objects, from which all is to be made, are not there.
    """
    from dataclasses import replace

    from deploy import checks

    reason = await checks.differs(site, one.identity)
    if reason is not None and not one.made:  # it was to be another generation, and died before it was
        former = replace(one.identity, generation=one.identity.generation - 1)
        if await checks.differs(site, former) is None:
            reason = None
    if reason is not None:
        raise UserError(
            f"site {site.name}: {reason}: a catalogue is made from its site's objects, so these must be there"
        )
    return one.made and not await checks.catalogue_problems(site, one.identity)


def _ask(site: Site, *, is_well: bool) -> None:
    out = console(stderr=True)
    if is_well:
        out.print(f"[yellow]The catalogue of site {site.name} is there, and is as it should be.[/]")
    out.print(f"{site.catalogue} is moved aside, and made anew from the objects of site {site.name}.")
    out.print("Until that is done the site has no vote, and no other site should go away.")
    if not typer.confirm(f"Rebuild the catalogue of site {site.name}?", err=True):
        raise typer.Exit(1)


async def _rebuild(settings: Settings, name: str) -> tuple[Report, str | None]:
    """Rebuild and fill a site; return also why it is no full member yet, or None if it is."""
    from deploy import compose, memory, record
    from deploy.command.progress import bar
    from deploy.roster import RecordRoster
    from storage_node.upkeep.fill import Fill
    from storage_node.upkeep.rebuild import Rebuild

    limit_bytes = settings.limits.header_limit_bytes
    roster = RecordRoster(settings)
    memory.collect_seldom()
    async with compose.running_grid(settings) as grid:
        with bar(f"reading the objects of site {name}") as progress:
            report = await Rebuild(grid, roster, header_limit_bytes=limit_bytes).run_once(progress, [name])
        if record.of_sites(settings)[name].rebuilding:
            return report, f"its objects could not be read to the end: {grid.health()[name].why}"
        await grid.sites.wait_until(lambda _: not grid.sites[name].membership.rebuilding)
        with bar(f"comparing site {name} with the others") as progress:
            filled = await Fill(grid, settings.upkeep, roster).run_once(progress)
        return report, hindrance(grid.health(), filled) if record.of_sites(settings)[name].filling else None


def _print(name: str, report: Report, why_not: str | None) -> None:
    out = console()
    out.print(
        f"{report.copies} copies were found, {report.added} rows were made, and {report.facts} facts added."
    )
    if report.without_provenance:
        out.print(f"[yellow]{report.without_provenance} copies do not say who sent them.[/]")
    if report.unreadable:
        out.print(f"[red]{report.unreadable} objects could not be read:[/]")
        for key in report.unreadable_keys:
            out.print(f"  {key}", markup=False)
    if report.owed:
        out.print(f"{report.owed} copies are at other sites, and will be copied from there.")
    if why_not is None:
        out.print(f"[green]Site {name} has everything, and is a full member again.[/]")
    else:
        out.print(f"[yellow]Site {name} has no vote yet: {why_not}: `atria upkeep` goes on when it can.[/]")
