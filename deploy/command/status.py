"""`atria status`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deploy.command import options
from deploy.command.console import console
from deploy.command.run import run
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from datetime import timedelta

    from rich.table import Table
    from rich.text import Text

    from deploy.overview import Overview, Process


def command(config: options.Config = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """Show balancers, workers, and sites with what each holds. Works when nothing runs, too.

    [bold]Examples[/]

      atria status

      atria status --data /srv/atria --json
    """
    from deploy.overview import look

    overview = run(look(Overrides(config, data).settings()))
    if as_json:
        print(json.dumps(overview.to_json()))
    else:
        print_tables(overview)


def print_tables(overview: Overview) -> None:
    """Show a cluster to a person."""
    out = console()
    if not overview.runs:
        out.print(
            f"The cluster in {overview.data_folder} does not run: start it with `atria up`.", style="yellow"
        )
    if overview.processes:
        out.print(_processes(overview))
    out.print(_sites(overview))


def _processes(overview: Overview) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("process", "state", "DICOM", "HTTP", "assoc.", "pid", "up for"):
        table.add_column(heading, overflow="fold")
    for one in overview.processes:
        table.add_row(
            one.name,
            _state(one),
            one.dicom,
            one.http,
            "" if one.associations is None else str(one.associations),
            str(one.pid),
            _age(datetime.now(UTC) - datetime.fromisoformat(one.started_at)),
        )
    return table


def _state(process: Process) -> Text:
    state = _coloured(process.state, "ready")
    if process.leads is not None:
        state.append(f", leads by {process.holds_by}" if process.leads else ", stands by")
    return state


def _sites(overview: Overview) -> Table:
    from rich import box
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("site", "state", "studies", "instances", "bytes", "owed to others", box=box.SIMPLE_HEAD)
    for site in overview.sites:
        held = site.held
        counts = () if held is None else (held.studies, held.instances, decimal(held.size_bytes), held.debts)
        table.add_row(site.name, _coloured(site.state, "up"), *map(str, counts))
    return table


def _age(age: timedelta) -> str:
    minutes, seconds = divmod(int(age.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"


def _coloured(state: str, good: str) -> Text:
    from rich.text import Text

    return Text(state, style="green" if state == good else "red")
