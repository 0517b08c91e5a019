"""`atria route`: which workers take which associations."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options, sharing
from deploy.command.console import console
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.settings import Route

app = typer.Typer(
    help="Which workers take which associations: the first route that fits says it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Called = Annotated[str | None, typer.Option(metavar="AE", help="Called AE title.", show_default="any")]
Calling = Annotated[str | None, typer.Option(metavar="AE", help="Calling AE title.", show_default="any")]
Source = Annotated[
    str | None, typer.Option(metavar="NETWORK", help="Where the caller is, 10.1.0.0/16.", show_default="any")
]
Workers = Annotated[
    list[str] | None,
    typer.Option(
        "--worker",
        metavar="KEY=VALUE",
        help="Label that a worker must have; all must fit.",
        show_default="all",
    ),
]
Only = Annotated[
    bool,
    typer.Option("--only", help="Refuse the association when there is no such worker; else any takes it."),
]
Every = Annotated[bool, typer.Option("--all", help="It is for all associations: others are tried before it.")]
Before = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Put it before this route.",
        show_default="the last, but before one for all",
    ),
]
Number = Annotated[
    int, typer.Argument(metavar="N", min=1, help="Number in `atria route list`.", show_default=False)
]


@app.command("add")
def add(
    called: Called = None,
    calling: Calling = None,
    source: Source = None,
    worker: Workers = None,
    only: Only = False,
    every: Every = False,
    before: Before = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Add a route. Balancers that run follow: it holds for the next association.

    Routes are tried in their order. It is told when one is never taken, as those before it take all that it
    is for.

    [bold]Examples[/]

      atria route add --source 10.1.0.0/16 --worker site=a

      atria route add --calling CT1 --worker modality=ct --only --before 1

      atria route add --all --worker site=a
    """
    from deploy.settings_changes import with_route

    route = _route(called, calling, source, _labels(worker or []), only=only)
    if route.is_for_all != every:
        raise UserError(
            "--all goes without --called, --calling and --source"
            if every
            else "what is the route for? Say --called, --calling or --source, or --all for all associations"
        )
    sharing.change(
        Overrides(config, data),
        lambda now: with_route(now, route, before=before),
        f"route added: {_words(route)}",
        as_json=as_json,
    )


@app.command("list")
def list_routes(
    config: options.Config = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """List the routes in the order in which they are tried, and say which are never taken.

    [bold]Examples[/]

      atria route list
    """
    from balancer.shadowing import shadowed

    routes = sharing.holding(Overrides(config, data)).settings.routes
    if not as_json:
        _print(routes)
        return
    takers = shadowed(routes)
    entries = [
        {**_json(index + 1, route), "shadowed_by": [taker + 1 for taker in takers.get(index, ())]}
        for index, route in enumerate(routes)
    ]
    print(json.dumps(entries))


@app.command("remove")
def remove(
    number: Number,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Remove a route.

    [bold]Examples[/]

      atria route remove 2
    """
    from deploy.settings_changes import without_route

    overrides = Overrides(config, data)
    routes = sharing.holding(overrides).settings.routes
    if number > len(routes):
        raise UserError(f"there is no route {number}: there are {len(routes)} (`atria route list`)")
    route = routes[number - 1]
    sharing.change(
        overrides,
        lambda now: without_route(now, number, route),
        f"route removed: {_words(route)}",
        as_json=as_json,
    )


@app.command("try")
def try_route(
    called: Annotated[str, typer.Option(metavar="AE", help="Called AE title.")],
    calling: Annotated[str, typer.Option(metavar="AE", help="Calling AE title.")],
    source: Annotated[str, typer.Option(metavar="ADDRESS", help="IP address of the caller.")],
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Tell which route an association would take.

    [bold]Examples[/]

      atria route try --calling CT1 --called ATRIA --source 10.1.2.3
    """
    from balancer.routing import route_of

    try:
        address = ip_address(source)
    except ValueError as error:
        raise UserError(f"--source: expected an IP address, found {source!r}") from error
    routes = sharing.holding(Overrides(config, data)).settings.routes
    route = route_of(routes, called_ae=called.strip(" "), calling_ae=calling.strip(" "), source=address)
    number = None if route is None else routes.index(route) + 1
    if as_json:
        print(json.dumps(None if route is None or number is None else _json(number, route)))
    elif route is None:
        console().print("No route fits: any worker takes it.")
    else:
        console().print(f"Route {number}: {_words(route)}.", markup=False, highlight=False)


def _route(
    called: str | None, calling: str | None, source: str | None, labels: Mapping[str, str], *, only: bool
) -> Route:
    from pydantic import ValidationError

    from cluster.settings import Route
    from cluster.settings.values import worded

    said = {"called_ae": called, "calling_ae": calling, "source": source, "workers": labels or None}
    values = {name: value for name, value in said.items() if value is not None}
    try:
        return Route.model_validate({**values, "only": True} if only else values)
    except ValidationError as error:
        raise UserError(f"route: {worded(error)}") from error


def _labels(words: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not (key and value):
            raise UserError(f"--worker: expected KEY=VALUE, found {word!r}")
        if labels.get(key, value) != value:
            raise UserError(f"--worker: {key} is given twice, and a worker has one: add a route for each")
        labels[key] = value
    return labels


def _words(route: Route) -> str:
    criteria = {"called": route.called_ae, "calling": route.calling_ae, "from": route.source}
    said = [f"{name} {value}" for name, value in criteria.items() if value is not None]
    return f"{', '.join(said) or 'all'} to {_workers(route)}"


def _workers(route: Route) -> str:
    if not route.workers:
        return "all workers"
    labels = ", ".join(f"{key}={value}" for key, value in route.workers.items())
    return f"workers with {labels}{', and no others' if route.only else ''}"


def _json(number: int, route: Route) -> dict[str, object]:
    return {"number": number, **route.model_dump(mode="json")}


def _print(routes: tuple[Route, ...]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("route", "called", "calling", "from", "to", box=box.SIMPLE_HEAD)
    for number, route in enumerate(routes, start=1):
        cells = [str(one or "any") for one in (route.called_ae, route.calling_ae, route.source)]
        table.add_row(str(number), *map(escape, cells), escape(_workers(route)))
    out = console()
    out.print(table)
    for said in sharing.never_taken(routes):
        out.print(f"{said}.", style="yellow")
    out.print("What no route fits goes to any worker.")
