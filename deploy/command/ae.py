"""`atria ae`: the Application Entities that the cluster knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command import options, sharing
from deploy.command.console import console
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings

app = typer.Typer(
    help="The Application Entities that the cluster knows: to whom it sends, and what holds for who asks.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Title = Annotated[str, typer.Argument(metavar="TITLE", help="AE title.", show_default=False)]
Host = Annotated[str | None, typer.Option(metavar="HOST", help="Where it is: C-MOVE may name it then.")]
Port = Annotated[int | None, typer.Option(metavar="PORT", min=1, max=65535, help="Its DICOM port.")]
AsStored = Annotated[
    bool | None,
    typer.Option("--as-stored/--corrected", help="Send it what is stored, or that with corrections."),
]
CharacterSet = Annotated[
    str | None,
    typer.Option(metavar="TERM", help="Specific Character Set of answers to its queries, as 'ISO_IR 100'."),
]
LenientLevels = Annotated[
    bool | None,
    typer.Option(
        "--lenient-levels/--strict-levels", help="Whether its queries may leave out keys of upper levels."
    ),
]
ShowRejected = Annotated[
    bool | None,
    typer.Option(
        "--show-rejected/--hide-rejected", help="Whether it sees what was rejected for quality reasons."
    ),
]


@app.command("add")
def add(
    title: Title,
    host: Host = None,
    port: Port = None,
    as_stored: AsStored = None,
    character_set: CharacterSet = None,
    lenient_levels: LenientLevels = None,
    show_rejected: ShowRejected = None,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Add an AE, or change what is said of one. Running processes follow.

    With --host and --port it is one that a C-MOVE may name.

    [bold]Examples[/]

      atria ae add WORKSTATION --host 10.1.2.3 --port 104

      atria ae add CT1

      atria ae add VIEWER --character-set "ISO_IR 100" --show-rejected
    """
    from deploy.settings_changes import Ae, with_ae

    ae = Ae(title, host, port, as_stored, character_set, lenient_levels, show_rejected)
    what = f"AE {title} {_said(ae)}"
    sharing.change(Overrides(config, data), lambda now: with_ae(now, ae), what, as_json=as_json)


@app.command("list")
def list_aes(config: options.Config = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """List the AEs that the cluster knows.

    [bold]Examples[/]

      atria ae list

      atria ae list --json
    """
    aes = _aes(sharing.holding(Overrides(config, data)).settings)
    if as_json:
        print(json.dumps(aes))
    else:
        _print(aes)


@app.command("remove")
def remove(
    title: Title,
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Forget an AE: nothing is sent to it any more, and nothing of its own holds for it.

    [bold]Examples[/]

      atria ae remove WORKSTATION
    """
    from deploy.settings_changes import without_ae

    what = f"AE {title} removed"
    sharing.change(Overrides(config, data), lambda now: without_ae(now, title), what, as_json=as_json)


def _said(ae: Any) -> str:
    """Return what is said of an AE in words, for the history."""
    from dataclasses import asdict

    said = [f"{name}={value}" for name, value in asdict(ae).items() if name != "title" and value is not None]
    return f"set to {', '.join(said)}" if said else "added"


def _aes(settings: Settings) -> list[dict[str, object]]:
    destinations = {one.ae_title: one for one in settings.destinations}
    peers = {one.ae_title: one for one in settings.peers}
    return [
        {
            "ae_title": title,
            "destination": destinations[title].model_dump(mode="json", exclude={"ae_title"})
            if title in destinations
            else None,
            "peer": peers[title].model_dump(mode="json", exclude={"ae_title"}) if title in peers else None,
        }
        for title in sorted(destinations.keys() | peers.keys())
    ]


def _print(aes: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from cluster.coordination.registry import Address

    table = Table("AE", "sent to", "as", "character set", "levels", "rejected", box=box.SIMPLE_HEAD)
    for ae in aes:
        destination, peer = ae["destination"], ae["peer"] or {}
        lenient = peer.get("lenient_levels")
        table.add_row(
            escape(ae["ae_title"]),
            escape(str(Address(destination["host"], destination["port"]))) if destination else "",
            ("stored" if destination["as_stored"] else "corrected") if destination else "",
            escape(peer.get("character_set") or ""),
            "" if lenient is None else "lenient" if lenient else "strict",
            "shown" if peer.get("show_rejected") else "",
        )
    out = console()
    out.print(table)
    if not aes:
        out.print("No AE is known: add one with `atria ae add`.")
