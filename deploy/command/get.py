"""`atria get`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command import options
from deploy.command.run import run
from deploy.errors import UserError
from deploy.overrides import Overrides

if TYPE_CHECKING:
    from cluster.settings import Settings
    from deploy.client.get import Got
    from deploy.client.locate import Located
    from deploy.client.peer import Peer

Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Keys of study level by keyword: PatientID=…, StudyDate=20200101-."
    ),
]
Study = Annotated[str | None, typer.Option(metavar="UID", help="Study Instance UID.")]
Series = Annotated[str | None, typer.Option(metavar="UID", help="Series Instance UID.")]
Sop = Annotated[str | None, typer.Option(metavar="UID", help="SOP Instance UID.")]
All = Annotated[bool, typer.Option("--all", help="Everything that is stored.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")]
Retries = Annotated[int, typer.Option(metavar="N", min=1, help="How often in a row to ask in vain.")]


def command(
    keys: Keys = None,
    study: Study = None,
    series: Series = None,
    sop: Sop = None,
    everything: All = False,
    out: Out = Path(),
    retries: Retries = 5,
    to: options.To = None,
    called: options.Called = None,
    calling: options.Calling = "ATRIA-SCU",
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Retrieve images into a folder (C-GET), as STUDY/SERIES/INSTANCE.dcm.

    Each is written as it is stored, byte for byte, in the transfer syntax it is stored in.
    Exits 1 when something that was found did not come.

    [bold]Examples[/]

      atria get --study 1.2.3 --out images

      atria get PatientID=12345 --out images

      atria get --all --out everything
    """
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": sop}
    given = {keyword: uid for keyword, uid in uids.items() if uid}
    if not (keys or given or everything):
        raise UserError("say what to get: a key, --study, --series or --sop; --all for everything")
    settings = Overrides(config, data).settings()
    got = run(_get(settings, keys or [], given, out, retries, to, called, calling))
    _report(got, out, as_json=as_json)
    if got.failed:
        raise typer.Exit(1)


async def _get(
    settings: Settings,
    words: list[str],
    uids: dict[str, str],
    out: Path,
    retries: int,
    to: str | None,
    called: str | None,
    calling: str,
) -> Got:
    from deploy.client.find import parse_keys
    from deploy.client.get import Getter
    from deploy.client.peer import resolve
    from deploy.command.progress import counting

    keys = {**parse_keys(words), **uids}
    peer = await resolve(settings, to, called, calling)
    found = await _locate(peer, keys)
    with counting("receiving", len(found)) as advance:
        return await Getter(peer, out, attempts=retries, on_received=lambda _: advance()).get(found)


async def _locate(peer: Peer, keys: dict[str, str]) -> list[Located]:
    from cluster.dicom.faults import AssociationEnded
    from deploy.client.find import open_finder
    from deploy.client.locate import locate

    try:
        async with await open_finder(peer, "study") as association:
            return [instance async for instance in locate(association, keys)]
    except AssociationEnded as error:
        raise UserError(f"{peer}: {error}, before all answers came: try again") from error


def _report(got: Got, out: Path, *, as_json: bool) -> None:
    if as_json:
        values = {
            "received": [str(file) for file in got.files.values()],
            "failed": {instance.sop_instance_uid: reason for instance, reason in got.failed.items()},
            "lost_associations": got.lost_associations,
        }
        print(json.dumps(values))
        return
    print(f"{len(got.files)} received into {out}, {len(got.failed)} failed")
    for instance, reason in got.failed.items():
        print(f"  failed: {instance.sop_instance_uid}: {reason}")
