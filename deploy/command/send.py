"""`atria send`."""

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
    from deploy.client.files import DicomFile, Skipped
    from deploy.client.send import Sent

Paths = Annotated[
    list[Path], typer.Argument(metavar="FILE|FOLDER", help="DICOM files, or folders of them.", exists=True)
]
Associations = Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Associations at once.")]
Retries = Annotated[int, typer.Option(metavar="N", min=1, help="How often to try what was not acknowledged.")]


def command(
    paths: Paths,
    associations: Associations = 2,
    retries: Retries = 8,
    to: options.To = None,
    called: options.Called = None,
    calling: options.Calling = "ATRIA-SCU",
    config: options.Config = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Send DICOM files, or all that are in folders (C-STORE).

    Each data set goes as it is in its file. What is not acknowledged, as an association was lost or the
    peer was short of sites, is sent again. Exits 1 when a file could not be stored.

    [bold]Examples[/]

      atria send images/

      atria send --associations 4 --to 10.0.0.5:11112 --called PACS /media/cdrom
    """
    settings = Overrides(config, data).settings()
    sent, skipped = run(_send(settings, paths, associations, retries, to, called, calling))
    _report(sent, skipped, as_json=as_json)
    if sent.failed:
        raise typer.Exit(1)


async def _send(
    settings: Settings,
    paths: list[Path],
    associations: int,
    retries: int,
    to: str | None,
    called: str | None,
    calling: str,
) -> tuple[Sent, list[Skipped]]:
    from deploy.client.peer import resolve
    from deploy.client.send import Sender
    from deploy.command.progress import counting

    peer = await resolve(settings, to, called, calling)
    files, skipped = _recognise(paths)
    if not files:
        raise UserError(f"nothing to send: {len(skipped)} files, and none is a DICOM instance")
    with counting("sending", len(files)) as advance:
        sender = Sender(peer, associations=associations, attempts=retries, on_settled=lambda _: advance())
        return await sender.send(files), skipped


def _recognise(paths: list[Path]) -> tuple[list[DicomFile], list[Skipped]]:
    from deploy.client.files import NotStorable, Skipped, recognise, walk
    from deploy.command.progress import counting

    candidates = list(walk(paths))
    files: list[DicomFile] = []
    skipped: list[Skipped] = []
    with counting("reading headers", len(candidates)) as advance:
        for path in candidates:
            try:
                files.append(recognise(path))
            except NotStorable as error:
                skipped.append(Skipped(path, str(error)))
            advance()
    return files, skipped


def _report(sent: Sent, skipped: list[Skipped], *, as_json: bool) -> None:
    if as_json:
        values = {
            "stored": len(sent.stored),
            "warnings": {str(one.file.path): one.reason for one in sent.warnings},
            "failed": {str(one.file.path): one.reason for one in sent.failed},
            "skipped": {str(one.path): one.reason for one in skipped},
            "resent": sent.resent,
            "lost_associations": sent.lost_associations,
        }
        print(json.dumps(values))
        return
    again = f" ({sent.resent} sent again)" if sent.resent else ""
    print(f"{len(sent.stored)} stored{again}, {len(sent.failed)} failed, {len(skipped)} skipped")
    for one in skipped:
        print(f"  skipped: {one.path}: {one.reason}")
    for kind, noted in (("warning", sent.warnings), ("failed", sent.failed)):
        for said in noted:
            print(f"  {kind}: {said.file.path}: {said.reason}")
