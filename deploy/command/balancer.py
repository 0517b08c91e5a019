"""`atria balancer`: run one, and say which of several leads."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from deploy.command import options
from deploy.command.cluster import existing, must_be_there
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from balancer.leadership.operating import Balancer
    from cluster.coordination.protocol import Coordination
    from cluster.settings import Settings

    T = TypeVar("T")

app = typer.Typer(
    rich_markup_mode="rich",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HAND_OVER_TIMEOUT_S: Final = 15.0

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a balancer.", show_default=False)]
Taker = Annotated[
    str | None,
    typer.Option("--to", metavar="NAME", help="Who shall lead.", show_default="any other balancer"),
]


@app.callback(short_help="Run one balancer; list them, have another lead, forget one that is gone.")
def command(
    context: typer.Context,
    config: options.Config = None,
    data: options.Data = None,
    host: options.Host = None,
    dicom_port: options.DicomPort = None,
    http_port: options.HttpPort = None,
    ae_title: options.AeTitle = None,
    name: options.Name = "balancer",
) -> None:
    """Run one balancer: the front door that all modalities call.

    On several hosts each has one, and one of them leads: it holds the service address.

    [bold]Examples[/]

      atria balancer --name lb1

      atria balancer list
    """
    if context.invoked_subcommand is not None:
        options.check_nothing_given(context)
        return
    from deploy.process import serve

    overrides = Overrides(config, data, host, dicom_port, http_port, ae_title)
    settings = overrides.settings()
    if not settings.etcd.endpoints:
        must_be_there(settings)
    if settings.etcd.endpoints and not options.was_given(context, "name"):
        raise UserError(
            "among balancers of several hosts each needs a name of its own, or two may hold the service"
            " address: say --name"
        )
    serve(settings, name, lambda stop: _serve(settings, overrides.file, name, stop))


async def _serve(settings: Settings, file: Path, name: str, stop: asyncio.Event) -> None:
    from balancer.address import AddressFault
    from balancer.leadership.candidacy import LinkUnusable
    from balancer.main import run as run_balancer
    from deploy import compose

    try:
        async with (
            compose.joined(settings, name) as cluster,
            compose.live(settings, file, cluster.coordination) as live,
        ):
            await run_balancer(live, cluster.registry, stop, name=name, coordination=cluster.coordination)
    except (AddressFault, LinkUnusable) as error:
        raise UserError(str(error)) from error


@app.command("list")
def list_balancers(
    config: options.Config = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """Show the balancers of the cluster: which leads, and which may.

    [bold]Examples[/]

      atria balancer list

      atria balancer list --json
    """
    from rich import box
    from rich.table import Table

    from balancer.leadership import operating

    settings = existing(config, data)
    found = _with_store(settings, operating.balancers)
    if as_json:
        print(json.dumps([one.to_json() for one in found]))
        return
    table = Table("balancer", "state", "link", box=box.SIMPLE_HEAD)
    for one in found:
        table.add_row(one.name, _state(one), str(one.link or "none"))
    console().print(table)


@app.command("hand-over")
def hand_over(
    to: Taker = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Let another balancer lead. Running associations go on to their end, new ones begin there.

    --json prints `leader`: who leads now; null where that could not be seen any more.

    [bold]Examples[/]

      atria balancer hand-over

      atria balancer hand-over --to lb2
    """
    from balancer.leadership import orders

    settings = existing(config, data)
    try:
        why = _with_store(settings, lambda store: orders.give(store, to, HAND_OVER_TIMEOUT_S))
    except TimeoutError:
        raise UserError(
            f"no balancer answered within {HAND_OVER_TIMEOUT_S:g} s: `atria balancer list` shows who leads"
        ) from None
    if why is not None:
        raise UserError(f"not handed over: {why}")
    leader = to or _leader(settings)
    if as_json:
        print(json.dumps({"leader": leader}))
    else:
        console().print(f"[green]{leader or 'Another balancer'} leads.[/]")


@app.command("forget")
def forget(
    name: Name,
    yes: options.Yes = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Count no more on a balancer that is gone for good.

    While etcd is away the leader keeps the address only if every balancer that is known promises not to take
    it. One that was taken out of service must be forgotten, or its silence lets the address go.

    Where it was the only one in the list, it must not come back with its data folder: nobody is left to tell
    it that another may hold the address.

    --json prints `forgotten`: the name.

    [bold]Examples[/]

      atria balancer forget lb2
    """
    from balancer.leadership import operating

    settings = existing(config, data)
    if not yes and not typer.confirm(f"Is balancer {name} switched off, and will it stay so?", err=True):
        raise typer.Exit(1)
    why = _with_store(settings, lambda store: operating.forget(store, name))
    if why is not None:
        raise UserError(f"{name} is not forgotten: {why}")
    if as_json:
        print(json.dumps({"forgotten": name}))
    else:
        console().print(f"[green]{name} is forgotten.[/]")


def _leader(settings: Settings) -> str | None:
    """Return who leads; None where nobody does, or nobody can tell: what was done is done all the same."""
    from balancer.leadership import operating

    with suppress(UserError):
        return next((one.name for one in _with_store(settings, operating.balancers) if one.leads), None)
    return None


def _with_store(settings: Settings, work: Callable[[Coordination], Awaitable[T]]) -> T:
    """Do something with the store that all hosts share.

    Raises
    ------
    UserError
        There is none, or it gives no answer.
    """
    from cluster.coordination.protocol import CoordinationUnavailable
    from deploy import compose

    async def working() -> T:
        store = compose.coordination(settings)
        if store is None:
            raise UserError("this cluster has one host, and one balancer (etcd.endpoints is not set)")
        try:
            return await work(store)
        except CoordinationUnavailable as error:
            raise UserError(f"etcd gives no answer: {error}") from error
        except ValueError as error:
            raise UserError(
                f"what etcd holds below {settings.etcd.prefix} is not what balancers write ({error}): is that"
                " this cluster's prefix (etcd.prefix)?"
            ) from error
        finally:
            await store.close()

    return run(working())


def _state(one: Balancer) -> str:
    if one.leads:
        return "[green]leads[/]"
    if not one.is_listed:
        return "[yellow]is not in the list yet: a leader adds it[/]"
    return "stands by" if one.is_there else "[red]is not there[/]"
