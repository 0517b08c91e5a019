"""`atria conflicts`: instances of which somebody has to say which version is the right one."""

from __future__ import annotations

import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.command.who import account
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from cluster.nouns import Fact
    from cluster.settings import Settings
    from storage_node.catalogue.protocol import Row
    from storage_node.grid.grid import Grid
    from storage_node.upkeep.conflicts import Difference, Versions

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SopUid = Annotated[str, typer.Argument(metavar="SOP_UID", help="SOP Instance UID.", show_default=False)]
Study = Annotated[
    str | None,
    typer.Option(metavar="UID", help="Study Instance UID, where several studies have the instance."),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Instances to list at most.")]
Values = Annotated[bool, typer.Option("--values", help="Print values, too: patients' names are among them.")]
Digest = Annotated[
    str | None, typer.Option(metavar="HEX", help="The version of this digest; its beginning will do.")
]
Newest = Annotated[bool, typer.Option("--newest", help="The version that came last.")]
First = Annotated[bool, typer.Option("--first", help="The version that came first.")]
Reason = Annotated[
    str, typer.Option("--reason", help="Why: it is kept with the decision.", show_default=False)
]


@app.callback()
def conflicts(
    context: typer.Context,
    limit: Limit = 100,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """List the instances whose versions differ in their pixels, and that nobody has decided about.

    All versions are kept. The first is in answers until somebody chooses, with [bold]atria conflicts
    choose[/]; what was sent after that is listed as undecided.

    [bold]Examples[/]

      atria conflicts

      atria conflicts show 1.2.826.0.1.3680043.8.498.1

      atria conflicts choose 1.2.826.0.1.3680043.8.498.1 --newest --reason "sent again with the right image"
    """
    if context.invoked_subcommand is not None:
        options.check_nothing_given(context)
        return
    found = run(_conflicts(Overrides(config, data).settings(), limit + 1))
    if as_json:
        print(json.dumps([_entry(one) for one in found[:limit]]))
    elif not found:
        console().print("There are no conflicts.")
    else:
        _print(found[:limit])
        if len(found) > limit:
            console().print(f"There are more than {limit}: see --limit.")


@app.command("show")
def show(
    sop_uid: SopUid,
    study: Study = None,
    values: Values = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show the versions of an instance: who sent them, when, and which attributes differ.

    [bold]Examples[/]

      atria conflicts show 1.2.826.0.1.3680043.8.498.1 --values
    """
    from storage_node.upkeep.conflicts import differences

    found = run(_versions(Overrides(config, data).settings(), sop_uid, study))
    differing = differences(found.rows)
    if as_json:
        told = {one.attribute: one.values if values else None for one in differing}
        print(json.dumps({**_entry(found), "differences": told if values else list(told)}))
        return
    console().print(f"study   {found.instance.study_instance_uid}")
    console().print(f"series  {found.instance.series_instance_uid}")
    console().print(f"state   {_state(found)}")
    console().print(_table(found))
    _print_differences(differing, values=values)


@app.command("choose")
def choose(
    sop_uid: SopUid,
    reason: Reason,
    digest: Digest = None,
    newest: Newest = False,
    first: First = False,
    study: Study = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Choose the version of an instance that is in answers. It stays so, whatever is sent later.

    [bold]Examples[/]

      atria conflicts choose 1.2.826.0.1.3680043.8.498.1 --first --reason "the second is another patient"
    """
    if (digest is not None) + newest + first != 1:
        raise UserError("say which version: one of --digest, --newest and --first")
    settings = Overrides(config, data).settings()
    fact = run(_choose(settings, sop_uid, study, digest, newest=newest, reason=reason))
    if as_json:
        print(json.dumps({"digest": fact.detail("digest"), "epoch": fact.epoch}))
    else:
        console().print(f"Version {fact.detail('digest')} is current.")


@asynccontextmanager
async def _grid(settings: Settings) -> AsyncIterator[Grid]:
    from deploy import compose
    from storage_node.grid.write import NotEnoughSites

    async with compose.running_grid(settings) as grid:
        try:
            yield grid
        except NotEnoughSites as error:
            raise UserError(f"too few sites answer: {error}") from error


async def _conflicts(settings: Settings, limit: int) -> list[Versions]:
    from storage_node.upkeep.conflicts import conflicts

    found: list[Versions] = []
    async with _grid(settings) as grid, aclosing(conflicts(grid)) as listed:
        async for one in listed:
            found.append(one)
            if len(found) == limit:
                break
    return found


async def _versions(settings: Settings, sop_uid: str, study: str | None) -> Versions:
    async with _grid(settings) as grid:
        return await _versions_of(grid, sop_uid, study)


async def _versions_of(grid: Grid, sop_uid: str, study: str | None) -> Versions:
    from storage_node.upkeep.conflicts import versions

    found = await versions(grid, sop_uid)
    meant = [one for one in found if study in (None, one.instance.study_instance_uid)]
    if not meant:
        raise UserError(f"no site that can be reached knows {sop_uid}{f' in {study}' if study else ''}")
    if len(meant) > 1:
        studies = ", ".join(one.instance.study_instance_uid for one in meant)
        raise UserError(f"{sop_uid} is in several studies: say which by --study: {studies}")
    return meant[0]


async def _choose(
    settings: Settings, sop_uid: str, study: str | None, digest: str | None, *, newest: bool, reason: str
) -> Fact:
    from storage_node.upkeep.conflicts import choose

    async with _grid(settings) as grid:
        among = await _versions_of(grid, sop_uid, study)
        row = among.rows[-1 if newest else 0] if digest is None else _of_digest(among.rows, digest)
        return await choose(grid, among, row, by=account(), reason=reason)


def _of_digest(rows: Sequence[Row], digest: str) -> Row:
    """Return the version whose digest begins so."""
    meant = [row for row in rows if row.version.digest.startswith(digest.lower())]
    if len(meant) != 1:
        raise UserError(f"{len(meant)} of {len(rows)} versions have a digest that begins with {digest!r}")
    return meant[0]


def _state(found: Versions) -> str:
    if found.conflict:
        return found.conflict
    return "no conflict" if found.choice is None else f"decided: {found.choice.reason}"


def _entry(found: Versions) -> dict[str, object]:
    instance, choice = found.instance, found.choice
    return {
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "conflict": found.conflict,
        "decided_by": choice and choice.decided_by,
        "decided_at": choice and choice.decided_at.isoformat(),
        "reason": choice and choice.reason,
        "versions": [_version(row, is_current=row is found.current) for row in found.rows],
    }


def _version(row: Row, *, is_current: bool) -> dict[str, object]:
    return {
        "digest": row.version.digest,
        "is_current": is_current,
        "size_bytes": row.version.size_bytes,
        "transfer_syntax_uid": row.version.transfer_syntax_uid,
        "received_at": row.provenance.received_at.isoformat(),
        "calling_ae": row.provenance.calling_ae,
        "source": row.provenance.source,
    }


def _print(found: Sequence[Versions]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("study", "SOP instance", "versions", "conflict", "since", box=box.SIMPLE_HEAD)
    for one in found:
        instance, since = one.instance, max(row.provenance.received_at for row in one.rows)
        table.add_row(
            instance.study_instance_uid,
            instance.sop_instance_uid,
            str(len(one.rows)),
            one.conflict,
            f"{since:%Y-%m-%d %H:%M:%S}",
        )
    console().print(table)


def _table(found: Versions) -> object:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "received", "from", "bytes", "transfer syntax", "digest", box=box.SIMPLE_HEAD)
    for number, row in enumerate(found.rows, start=1):
        sender = f"{row.provenance.calling_ae} ({row.provenance.source})"
        table.add_row(
            f"{number}{' current' if row is found.current else ''}",
            f"{row.provenance.received_at:%Y-%m-%d %H:%M:%S}",
            escape(sender),
            str(row.version.size_bytes),
            row.version.transfer_syntax_uid,
            row.version.digest,
        )
    return table


def _print_differences(differing: Sequence[Difference], *, values: bool) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    if not differing:
        console().print("The headers do not differ.")
    elif not values:
        console().print(f"The headers differ in {', '.join(one.attribute for one in differing)}.")
    else:
        table = Table("attribute", *map(str, range(1, len(differing[0].values) + 1)), box=box.SIMPLE_HEAD)
        for one in differing:
            table.add_row(one.attribute, *("missing" if it is None else escape(it) for it in one.values))
        console().print(table)
