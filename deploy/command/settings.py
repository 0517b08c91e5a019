"""`atria settings`: what holds, where it comes from, and what held before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from deploy.command import options, sharing
from deploy.command.console import console
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings_store.protocol import SettingsRevision
    from deploy.settings_origins import Setting

app = typer.Typer(
    help="Look at the settings, and change those that all hosts share.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NAMED_BY: Final = {"data_folder": "data"}
"""Settings that a command's options say, and which."""

Key = Annotated[str, typer.Argument(metavar="KEY", help="As limits.queue_timeout_s.", show_default=False)]


@app.command("show")
def show(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="One setting, or a table of them.")
    ] = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Show what holds, and where each value comes from: default, file, command line, cluster.

    [bold]Examples[/]

      atria settings show

      atria settings show limits

      atria settings show limits.associations --json
    """
    overrides = Overrides(config, data)
    found, differing = _settings(overrides)
    if key is not None:
        found = [one for one in found if one.key == key or one.key.startswith(f"{key}.")]
        differing = [one for one in differing if one == key or one.startswith(f"{key}.")]
    if not found:
        raise UserError(f"{key}: there is no such setting: `atria settings show` lists them")
    if as_json:
        print(json.dumps({one.key: {"value": one.value, "from": one.origin.value} for one in found}))
    else:
        _print(found)
    if differing:
        typer.echo(
            f"atria: {overrides.file} says something else of {', '.join(differing)}:"
            " the cluster's hosts share these, and what they share holds",
            err=True,
        )


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="As it would stand in the file.", show_default=False)
    ],
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Change a limit, or how the cluster speaks DICOM, for all hosts. Running processes follow.

    [bold]Examples[/]

      atria settings set limits.associations 100

      atria settings set dicom.check_calling_ae_title true
    """
    from deploy.settings_changes import with_value

    sharing.change(
        Overrides(config, data),
        lambda now: with_value(now, key, value),
        f"{key} set to {value}",
        as_json=as_json,
    )


@app.command("unset")
def unset_value(
    key: Key, config: options.Config = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """Let the default hold again.

    [bold]Examples[/]

      atria settings unset limits.associations
    """
    from deploy.settings_changes import without_value

    sharing.change(
        Overrides(config, data), lambda now: without_value(now, key), f"{key} unset", as_json=as_json
    )


@app.command("history")
def history(config: options.Config = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """List what was changed of the shared settings: when, by whom, and what.

    [bold]Examples[/]

      atria settings history
    """
    revisions = sharing.history(Overrides(config, data))
    if as_json:
        print(json.dumps([_json(one) for one in revisions]))
    else:
        _print_history(revisions)


@app.command("revert")
def revert(
    number: Annotated[
        int, typer.Argument(metavar="N", help="Revision in `atria settings history`.", show_default=False)
    ],
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Let what held in a former revision hold again. That makes a new revision.

    [bold]Examples[/]

      atria settings revert 3
    """
    from cluster.settings.shared import parse

    overrides = Overrides(config, data)
    kept = {revision.number: revision for revision in sharing.history(overrides)}
    if number not in kept:
        there = f"there are {min(kept)} to {max(kept)}" if kept else "there is none"
        raise UserError(f"there is no revision {number}: {there}")
    document = kept[number].document
    sharing.change(overrides, lambda _: parse(document), f"back to revision {number}", as_json=as_json)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Settings (TOML).", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Answer: is this a settings file that can be used? Exits 2 when not. It changes nothing.

    --json prints `problems`: what is wrong, and nothing where nothing is.

    [bold]Examples[/]

      atria settings check atria.toml
    """
    from cluster.settings import SettingsError, load

    try:
        load(file.expanduser())
    except SettingsError as error:
        if as_json:
            print(json.dumps({"problems": [str(error)]}))
        raise UserError(f"settings: {error}") from error
    if as_json:
        print(json.dumps({"problems": []}))
    else:
        said = f"{file}: every key is known, and every value can be used."
        console().print(said, markup=False, highlight=False)


def _settings(overrides: Overrides) -> tuple[list[Setting], list[str]]:
    """Return what holds, and the keys of which the settings file says something else in vain."""
    import tomllib

    from cluster.settings import shared
    from deploy.settings_origins import settings_of

    held = sharing.holding(overrides)
    file = tomllib.loads(overrides.file.read_text("utf-8")) if overrides.file.exists() else {}
    given = frozenset(key for key, option in _NAMED_BY.items() if getattr(overrides, option) is not None)
    if held.revision is None or not held.settings.etcd.endpoints:
        return settings_of(held.settings, file=file, given=given, cluster=None), []
    cluster = held.revision.document
    own = shared.document(overrides.settings())
    differing = shared.differences(own, cluster) if own else []
    return settings_of(held.settings, file=file, given=given, cluster=cluster), differing


def _print(found: list[Setting]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("setting", "value", "from", box=box.SIMPLE_HEAD)
    for one in found:
        style = "dim" if one.origin == "default" else ""
        table.add_row(one.key, escape(_shown(one.value)), one.origin, style=style)
    console().print(table)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(_shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown(one)}" for key, one in value.items() if one is not None)
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _json(revision: SettingsRevision) -> dict[str, object]:
    return {
        "number": revision.number,
        "changed_at": revision.changed_at.isoformat(),
        "changed_by": revision.changed_by,
        "change": revision.change,
        "document": revision.document,
    }


def _print_history(revisions: list[SettingsRevision]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("revision", "when", "by", "what", box=box.SIMPLE_HEAD)
    for one in revisions:
        when = f"{one.changed_at.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(str(one.number), when, escape(one.changed_by), escape(one.change))
    console().print(table)
