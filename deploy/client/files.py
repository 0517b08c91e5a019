"""Which files can be sent, and which of them share an association."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.dicom.uids import MEDIA_STORAGE_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MAX_CONTEXTS: Final = 128
"""Presentation context IDs are the odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""

_HEAD_BYTES: Final = 256 * 1024
_BLOCK_BYTES: Final = 1024 * 1024


class NotStorable(Exception):
    """The file holds nothing that C-STORE could carry; the message says why."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file whose data set can be sent as it is."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset_bytes: int
    size_bytes: int

    @property
    def context(self) -> tuple[str, str]:
        """SOP class and transfer syntax: the presentation context that it needs."""
        return self.sop_class_uid, self.transfer_syntax_uid

    def data_set(self) -> Iterator[bytes]:
        """Yield the data set, as it is in the file."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.data_set_offset_bytes)
            while block := file.read(_BLOCK_BYTES):
                yield block


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that cannot be sent."""

    path: Path
    reason: str


def walk(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and those in folders below, ordered by name."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from (path.__class__(folder, name) for name in sorted(names))


def recognise(path: Path) -> DicomFile:
    """Read what must be known of a file before it can be sent.

    The data set's own SOP Class and Instance UID are taken, as the receiver compares those with the
    command's; those of the File Meta Information stand in where the data set cannot be read so far.

    Raises
    ------
    NotStorable
        It is no DICOM file, or not one of a storage SOP class.
    """
    from cluster.dicom.header import HeaderError, HeaderReader
    from cluster.dicom.part10 import NotPart10, split

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NotStorable("no regular file")  # a named pipe would be waited for
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size_bytes = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise NotStorable(f"cannot be read: {error.strerror}") from error
    try:
        part10 = split(head)
    except (NotPart10, HeaderError) as error:
        raise NotStorable(f"no DICOM: {error}") from error
    reader = HeaderReader(part10.transfer_syntax_uid)
    try:
        reader.feed(memoryview(head)[part10.data_set_offset :])
        sop_class, sop_instance = reader.sop_class_uid, reader.sop_instance_uid
    except HeaderError:
        sop_class = sop_instance = None
    sop_class = sop_class or part10.sop_class_uid
    sop_instance = sop_instance or part10.sop_instance_uid
    if not sop_class or not sop_instance:
        raise NotStorable("no SOP instance: it has no SOP Class UID or SOP Instance UID")
    if not (sop_class + sop_instance).isascii():
        raise NotStorable(
            "its SOP Class UID or SOP Instance UID is not ASCII, which no command set can carry"
        )
    if sop_class == MEDIA_STORAGE_DIRECTORY:
        raise NotStorable("a DICOMDIR, which lists files and is not sent")
    return DicomFile(
        path, sop_class, sop_instance, part10.transfer_syntax_uid, part10.data_set_offset, size_bytes
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that one association can carry."""

    files: tuple[DicomFile, ...]

    @property
    def contexts(self) -> tuple[tuple[str, str], ...]:
        """What the association must propose, at most `MAX_CONTEXTS`."""
        return tuple(dict.fromkeys(file.context for file in self.files))


def plan(files: Sequence[DicomFile], associations: int) -> list[Batch]:
    """Divide files among associations, in their order, so that a study stays together where it can.

    Parameters
    ----------
    files : sequence of DicomFile
    associations : int
        How many should run at once.

    Returns
    -------
    list of Batch
        Every file is in exactly one. None needs more than `MAX_CONTEXTS` presentation contexts.
    """
    if not files:
        return []
    share = -(-len(files) // associations)
    batches: list[list[DicomFile]] = [[]]
    contexts: set[tuple[str, str]] = set()
    for file in files:
        if len(batches[-1]) == share or len(contexts | {file.context}) > MAX_CONTEXTS:
            batches.append([])
            contexts = set()
        batches[-1].append(file)
        contexts.add(file.context)
    return [Batch(tuple(batch)) for batch in batches]
