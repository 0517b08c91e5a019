"""`atria worker`: run one, look at them, drain and restart them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.cluster import existing, must_be_there
from deploy.command.console import console
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from cluster.coordination.registry import Member
    from cluster.settings import Settings
    from deploy.rolling import Rolling

app = typer.Typer(
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The worker.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Workers.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it has ended.")]
All = Annotated[bool, typer.Option("--all", help="All workers, one after another.")]


@app.callback(
    invoke_without_command=True, short_help="Run one worker; list, drain, restart and start workers."
)
def command(
    context: typer.Context,
    config: options.Config = None,
    data: options.Data = None,
    host: options.Host = None,
    dicom_port: options.DicomPort = None,
    http_port: options.HttpPort = None,
    ae_title: options.AeTitle = None,
    name: options.Name = "worker-1",
) -> None:
    """Run one worker: it speaks DICOM with whom the balancer sends, and writes to the sites.

    It listens on free ports of `worker.host` (the loopback interface, unless the settings say otherwise) and
    announces them to the balancers. Asked to end, it lets running associations finish.

    With a command, look at the workers that run, drain or restart them.

    [bold]Examples[/]

      atria worker --name worker-3

      atria worker list
    """
    if context.invoked_subcommand is not None:
        options.check_nothing_given(context)
        return
    import asyncio

    from deploy import compose
    from deploy.process import STAYS_ENDED, serve
    from storage_node.kept_port import KeptPort
    from storage_node.worker import run as run_worker

    overrides = Overrides(config, data, host, dicom_port, http_port, ae_title)
    settings = overrides.settings()
    if not settings.etcd.endpoints:
        must_be_there(settings)
    stays_ended = False
    # On one host the registry goes with nobody but the host: a worker is found wherever it is.
    kept_port = KeptPort(settings.remembered_folder / name / "port") if settings.etcd.endpoints else None

    async def body(stop: asyncio.Event) -> None:
        nonlocal stays_ended
        async with (
            compose.joined(settings, name) as cluster,
            compose.live(settings, overrides.file, cluster.coordination) as live,
            compose.running_grid(settings, cluster.coordination) as grid,
        ):
            stays_ended = await run_worker(
                live,
                grid,
                cluster.registry,
                cluster.requests,
                stop,
                name=name,
                kept_port=kept_port,
            )

    serve(settings, name, body)
    if stays_ended:
        raise typer.Exit(STAYS_ENDED)


@app.command("list")
def list_workers(
    config: options.Config = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """Show the workers that run: where, for what, how loaded, and whether they take associations.

    [bold]Examples[/]

      atria worker list

      atria worker list --json
    """
    from deploy import compose

    settings = existing(config, data)
    workers = run(compose.members(settings, "worker"))
    if as_json:
        print(json.dumps([_entry(worker) for worker in workers]))
        return
    _print_table(workers)


@app.command("drain")
def drain(
    name: Name,
    wait: Wait = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Have a worker take no new association, finish those that it has, and end. It stays ended.

    Associations may go on for `drain_timeout_s`; those that are silent between messages are ended sooner,
    after `drain_idle_s`. Under `atria up` it is started again by `atria worker start`.

    --json prints the worker as `atria worker list` does, and `ended`: whether it was waited for.

    [bold]Examples[/]

      atria worker drain worker-1

      atria worker drain worker-1 --wait
    """
    settings = existing(config, data)

    async def work() -> Member:
        async with _rolling(settings) as rolling:
            (worker,) = await rolling.workers([name])
            await rolling.drain(worker)
            if wait:
                await rolling.ended(worker)
            return worker

    worker = run(work())
    if as_json:
        print(json.dumps({**_entry(worker), "draining": True, "ended": wait}))
    elif wait:
        console().print(f"{name} has ended.")
    else:
        console().print(
            f"{name} drains: what it has may go on for {settings.drain_timeout_s:g} s, then it stays ended."
        )


@app.command("restart")
def restart(
    names: Names = None,
    every: All = False,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Restart workers one after another: each is drained, and back, before the next one is.

    Running associations finish, and new ones go to the others. It stops at a worker that does not come back.

    --json prints those that are back as `atria worker list` does, each with its `former_pid`.

    [bold]Examples[/]

      atria worker restart --all

      atria worker restart worker-1 worker-2
    """
    if bool(names) == every:
        raise UserError("which workers? Name them, or say --all")
    settings = existing(config, data)

    restarted: list[dict[str, object]] = []

    async def work() -> None:
        async with _rolling(settings) as rolling:
            for worker in await rolling.workers(names or ()):
                back = await rolling.restart(worker)
                restarted.append({**_entry(back), "former_pid": worker.pid})
                if not as_json:
                    console().print(
                        f"{worker.name} is back: process {worker.pid} has ended, {back.pid} is ready."
                    )

    try:
        run(work())
    finally:
        if as_json and restarted:
            print(json.dumps(restarted))


@app.command("start")
def start(
    name: Name, config: options.Config = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """Start a worker again that was drained, where `atria up` keeps it.

    --json prints the worker as `atria worker list` does.

    [bold]Examples[/]

      atria worker start worker-1
    """
    settings = existing(config, data)

    async def work() -> Member:
        async with _rolling(settings) as rolling:
            return await rolling.start(name)

    back = run(work())
    if as_json:
        print(json.dumps(_entry(back)))
    else:
        console().print(f"{name} is ready: process {back.pid}.")


@asynccontextmanager
async def _rolling(settings: Settings) -> AsyncIterator[Rolling]:
    from deploy import compose
    from deploy.rolling import Rolling

    async with compose.requests(settings) as requests:
        yield Rolling(settings, requests)


def _entry(worker: Member) -> dict[str, object]:
    return {
        "name": worker.name,
        "dicom": str(worker.dicom),
        "http": str(worker.http),
        "pid": worker.pid,
        "version": worker.version,
        "started_at": worker.started_at.isoformat(timespec="seconds"),
        "draining": worker.draining,
        "associations": worker.load.associations,
        "capacity": worker.capacity,
        "weight": worker.weight,
        "labels": dict(worker.labels),
    }


def _print_table(workers: Sequence[Member]) -> None:
    from rich import box
    from rich.table import Table

    if not workers:
        console().print("No worker runs.", style="yellow")
        return
    table = Table(
        "worker", "state", "DICOM", "assoc.", "at most", "weight", "labels", "pid", box=box.SIMPLE_HEAD
    )
    for worker in workers:
        table.add_row(
            worker.name,
            "[yellow]draining[/]" if worker.draining else "[green]serving[/]",
            str(worker.dicom),
            str(worker.load.associations),
            str(worker.capacity),
            str(worker.weight),
            ", ".join(f"{key}={value}" for key, value in worker.labels),
            str(worker.pid),
        )
    console().print(table)
