"""Real images to send: what pydicom ships, each made an instance of its own.

Some of those files share a SOP Instance UID with another, or lack a UID: they get fresh ones, and a File Meta
Information that says so. All others go byte for byte as they are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster.dicom.uids import MEDIA_STORAGE_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom import FileDataset

_RAW_DATA_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66"
_PREFIX_OFFSET_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class RealFiles:
    """Files that can be sent."""

    studies: Mapping[Path, str]
    """Each file, with its Study Instance UID."""
    shared: int
    """How many got a fresh SOP Instance UID, as another file has theirs."""
    lacking: int
    """How many got a UID that they had not."""
    not_storable: int
    """How many files hold no SOP instance: text, a colour profile, DICOMDIRs, a bare fragment."""


def gather(folder: Path) -> RealFiles:
    """Write the storable ones of the files that pydicom ships into a folder."""
    from pydicom.data import get_testdata_files

    studies: dict[Path, str] = {}
    seen: set[str] = set()
    shared = lacking = not_storable = 0
    for path in sorted(path for path in map(Path, get_testdata_files()) if path.is_file()):
        data_set = _read(path)
        if data_set is None:
            not_storable += 1
            continue
        lacks = _give_missing_uids(data_set)
        clashes = str(data_set.SOPInstanceUID) in seen
        if clashes:
            data_set.SOPInstanceUID = _fresh_uid()
        target = folder / f"{len(studies):03}-{path.name}"
        if lacks or clashes or data_set.preamble is None:
            _write(data_set, target)
        else:
            target.write_bytes(path.read_bytes())
        lacking += lacks
        shared += clashes
        seen.add(str(data_set.SOPInstanceUID))
        studies[target] = str(data_set.StudyInstanceUID)
    return RealFiles(studies, shared, lacking, not_storable)


def _read(path: Path) -> FileDataset | None:
    """Return what the file holds; None if it is nothing that C-STORE carries."""
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities are why these files are worth sending
        data_set = dcmread(path, force=True)
        sop_class = data_set.get("SOPClassUID") or data_set.file_meta.get("MediaStorageSOPClassUID")
    if sop_class == MEDIA_STORAGE_DIRECTORY or (not sop_class and data_set.preamble is None):
        return None
    return data_set


def _give_missing_uids(data_set: FileDataset) -> bool:
    missing = [
        keyword
        for keyword in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        if not data_set.get(keyword)
    ]
    for keyword in missing:
        setattr(data_set, keyword, _fresh_uid())
    if "SOPClassUID" in missing:
        data_set.SOPClassUID = data_set.file_meta.get("MediaStorageSOPClassUID") or _RAW_DATA_STORAGE
    return bool(missing)


def _fresh_uid() -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def _write(data_set: FileDataset, target: Path) -> None:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = data_set.original_encoding
    native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    meta = data_set.file_meta
    meta.TransferSyntaxUID = meta.get("TransferSyntaxUID") or native
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set.save_as(target, enforce_file_format=True)
