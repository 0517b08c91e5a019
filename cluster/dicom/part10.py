"""Part 10 files: writing what comes before a data set, always the same, and reading what others wrote."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from cluster.dicom.elements import VR_OF_16_BIT_LENGTH, VR_OF_32_BIT_LENGTH
from cluster.dicom.header import Buffer
from cluster.dicom.transfer_syntaxes import EXPLICIT_VR_BE, EXPLICIT_VR_LE, IMPLICIT_VR_LE

IMPLEMENTATION_CLASS_UID: Final = "2.25.100701708561513581688113890095217180433"
IMPLEMENTATION_VERSION_NAME: Final = "ATRIA"
"""Both are in each file, hence in each digest: they are frozen for ever."""

PREAMBLE_BYTES: Final = 128
_PREFIX: Final = b"DICM"
_BEGIN: Final = PREAMBLE_BYTES + len(_PREFIX)

_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_LONG_VRS: Final = frozenset(vr.encode() for vr in VR_OF_32_BIT_LENGTH)
_VRS: Final = _LONG_VRS | frozenset(vr.encode() for vr in VR_OF_16_BIT_LENGTH)
_LAST_GROUP_OF_A_FIRST_ELEMENT: Final = 0x0020


class NotPart10(Exception):
    """Bytes that are neither a Part 10 file nor look like a data set."""


@dataclass(frozen=True, slots=True)
class Part10:
    """What a file says of its data set before it begins."""

    transfer_syntax_uid: str
    sop_class_uid: str | None
    sop_instance_uid: str | None
    data_set_offset: int
    """Where the data set begins, in bytes."""


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble, prefix and File Meta Information of a data set (PS3.10 7.1).

    They follow from the arguments alone: nothing of the sender or of the time is in them.

    Raises
    ------
    ValueError
        A UID is not ASCII, or longer than a UI element can be.
    """
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\0\1"),
            _element(0x0002, b"UI", _padded(sop_class_uid)),
            _element(0x0003, b"UI", _padded(sop_instance_uid)),
            _element(0x0010, b"UI", _padded(transfer_syntax_uid)),
            _element(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID)),
            _element(0x0013, b"SH", _padded(IMPLEMENTATION_VERSION_NAME, " ")),
        )
    )
    group_length = _element(0x0000, b"UL", struct.pack("<I", len(elements)))
    return b"".join((bytes(PREAMBLE_BYTES), _PREFIX, group_length, elements))


def split(first_bytes: Buffer) -> Part10:
    """Read the beginning of any sender's file, with or without preamble and File Meta Information.

    Parameters
    ----------
    first_bytes : bytes-like
        At least the whole File Meta Information, if there is one (a few hundred bytes as a rule).

    Raises
    ------
    NotPart10
        It is no DICOM file, or the File Meta Information is cut short.
    """
    data = bytes(first_bytes)
    position = _BEGIN if data[PREAMBLE_BYTES:_BEGIN] == _PREFIX else 4 if data[:4] == _PREFIX else 0
    meta, offset = _read_meta(data, position)
    if not meta and position == 0 and not _looks_like_a_data_set(data):
        raise NotPart10("it has no DICM prefix, and does not begin with an element of a data set")
    uids = {tag: value.decode("latin_1").strip(" \0") or None for tag, value in meta.items()}
    return Part10(
        uids.get(_TRANSFER_SYNTAX_UID) or _guess(data, offset),
        uids.get(_MEDIA_STORAGE_SOP_CLASS_UID),
        uids.get(_MEDIA_STORAGE_SOP_INSTANCE_UID),
        offset,
    )


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", 0x0002, number, vr, 0, len(value)) + value
    try:
        return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value
    except struct.error as error:
        raise ValueError(f"(0002,{number:04X}) cannot have {len(value)} bytes") from error


def _padded(value: str, padding: str = "\0") -> bytes:
    return (value + padding * (len(value) % 2)).encode("ascii")


def _read_meta(data: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """Read elements of group 2: in Explicit VR, or in Implicit VR where a sender is wrong about it."""
    meta: dict[int, bytes] = {}
    while data[position : position + 2] == b"\x02\x00":
        vr = data[position + 4 : position + 6]
        size = 12 if vr in _LONG_VRS else 8
        width = 2 if vr in _VRS and size == 8 else 4
        length = int.from_bytes(data[position + size - width : position + size], "little")
        stop = position + size + length
        if stop > len(data):
            raise NotPart10("its File Meta Information is cut short")
        number = int.from_bytes(data[position + 2 : position + 4], "little")
        meta[0x00020000 | number] = data[position + size : stop]
        position = stop
    return meta, position


def _guess(data: bytes, offset: int) -> str:
    """Guess a native transfer syntax from a data set's first element; its group is below 0x0100."""
    if data[offset + 4 : offset + 6] not in _VRS:
        return IMPLICIT_VR_LE
    return EXPLICIT_VR_BE if data[offset] == 0 and data[offset + 1] else EXPLICIT_VR_LE


def _looks_like_a_data_set(data: bytes) -> bool:
    """Whether the bytes begin with an element that data sets begin with, of a length that can be."""
    if len(data) < 8:
        return False
    if data[4:6] in _VRS:
        group = min(int.from_bytes(data[:2], "little"), int.from_bytes(data[:2], "big"))
        return 0 < group <= _LAST_GROUP_OF_A_FIRST_ELEMENT
    group, length = int.from_bytes(data[:2], "little"), int.from_bytes(data[4:8], "little")
    return 0 < group <= _LAST_GROUP_OF_A_FIRST_ELEMENT and length <= max(len(data), 1024)
