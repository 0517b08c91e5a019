"""The instances that are sent: a 526 KB CT image, and a multi-frame one of any size, encoded here by hand.

Both are Explicit VR Little Endian, and hold no more than fixed values, random pixels, and UIDs of one fixed
length, so that fresh UIDs are written over the old ones in what is encoded already.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
MULTI_FRAME_GRAYSCALE_WORD_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.7.3"

ROWS: Final = 512
COLUMNS: Final = 512
FRAME_BYTES: Final = ROWS * COLUMNS * 2
UID_LENGTH: Final = 36

_LONG_VALUE_REPRESENTATIONS: Final = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT"})
_SERIES_LENGTH: Final = 100

_IMAGE_TYPE = "ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI"
_FIXED: Final[tuple[tuple[int, str, str | int], ...]] = (
    (0x00080005, "CS", "ISO_IR 100"),
    (0x00080008, "CS", _IMAGE_TYPE),
    (0x00080012, "DA", "20240311"),
    (0x00080013, "TM", "101502.250000"),
    (0x00080020, "DA", "20240311"),
    (0x00080021, "DA", "20240311"),
    (0x00080022, "DA", "20240311"),
    (0x00080023, "DA", "20240311"),
    (0x00080030, "TM", "100844.078000"),
    (0x00080031, "TM", "101210.437000"),
    (0x00080032, "TM", "101458.936000"),
    (0x00080033, "TM", "101458.936000"),
    (0x00080050, "SH", "A2024031100471"),
    (0x00080060, "CS", "CT"),
    (0x00080070, "LO", "Example Medical"),
    (0x00080080, "LO", "Example University Hospital"),
    (0x00080081, "ST", "1 Harbour Road, Example"),
    (0x00080090, "PN", "Referrer^Rita"),
    (0x00081010, "SH", "CT-04"),
    (0x00081030, "LO", "CT abdomen and pelvis with contrast"),
    (0x0008103E, "LO", "Abdomen portal venous 1.0 B30f"),
    (0x00081040, "LO", "Radiology"),
    (0x00081050, "PN", "Performer^Paula"),
    (0x00081070, "PN", "Operator^Otto"),
    (0x00081090, "LO", "Scanner 64"),
    (0x00082111, "ST", "axial reconstruction"),
    (0x00100010, "PN", "Bench^Benedict"),
    (0x00100020, "LO", "BENCH0001"),
    (0x00100021, "LO", "EXAMPLE"),
    (0x00100030, "DA", "19570404"),
    (0x00100040, "CS", "M"),
    (0x00101010, "AS", "066Y"),
    (0x00101020, "DS", "1.82"),
    (0x00101030, "DS", "84"),
    (0x001021B0, "LT", "no known allergies"),
    (0x00104000, "LT", "made by a benchmark"),
    (0x00180010, "LO", "Iodine 300"),
    (0x00180015, "CS", "ABDOMEN"),
    (0x00180022, "CS", "HELIX"),
    (0x00180050, "DS", "1"),
    (0x00180060, "DS", "120"),
    (0x00180090, "DS", "500"),
    (0x00181000, "LO", "55127"),
    (0x00181020, "LO", "VA48A"),
    (0x00181030, "LO", "AbdomenRoutine"),
    (0x00181041, "DS", "90"),
    (0x00181049, "DS", "30"),
    (0x00181100, "DS", "380"),
    (0x00181110, "DS", "1085.6"),
    (0x00181111, "DS", "595"),
    (0x00181120, "DS", "0"),
    (0x00181130, "DS", "161.5"),
    (0x00181140, "CS", "CW"),
    (0x00181150, "IS", "500"),
    (0x00181151, "IS", "214"),
    (0x00181152, "IS", "107"),
    (0x00181160, "SH", "FLAT"),
    (0x00181170, "IS", "25"),
    (0x00181190, "DS", "1.2"),
    (0x00181200, "DA", "20240311"),
    (0x00181201, "TM", "063015.000000"),
    (0x00181210, "SH", "B30f"),
    (0x00185100, "CS", "HFS"),
    (0x00189345, "DS", "9.31"),
    (0x00200010, "SH", "47110815"),
    (0x00200011, "IS", "5"),
    (0x00200012, "IS", "3"),
    (0x00200013, "IS", "117"),
    (0x00200020, "CS", "L\\P"),
    (0x00200032, "DS", "-189.62890625\\-339.62890625\\-412.5"),
    (0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
    (0x00200060, "CS", ""),
    (0x00201040, "LO", "XY"),
    (0x00201041, "DS", "-412.5"),
    (0x00204000, "LT", "portal venous phase"),
    (0x00280002, "US", 1),
    (0x00280004, "CS", "MONOCHROME2"),
    (0x00280010, "US", ROWS),
    (0x00280011, "US", COLUMNS),
    (0x00280030, "DS", "0.7421875\\0.7421875"),
    (0x00280100, "US", 16),
    (0x00280101, "US", 12),
    (0x00280102, "US", 11),
    (0x00280103, "US", 0),
    (0x00280106, "US", 0),
    (0x00280107, "US", 4095),
    (0x00281050, "DS", "40"),
    (0x00281051, "DS", "400"),
    (0x00281052, "DS", "-1024"),
    (0x00281053, "DS", "1"),
    (0x00281054, "LO", "HU"),
    (0x00281055, "LO", "ABDOMEN"),
    (0x00321033, "LO", "Surgery"),
    (0x00321060, "LO", "CT abdomen and pelvis"),
    (0x00400244, "DA", "20240311"),
    (0x00400245, "TM", "100844.078000"),
    (0x00400253, "SH", "47110815"),
    (0x00400254, "LO", "CT abdomen and pelvis with contrast"),
)


@dataclass(frozen=True, slots=True)
class Uids:
    """The three UIDs that say which instance it is, each of `UID_LENGTH` characters."""

    study: bytes
    series: bytes
    instance: bytes


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set whose value of Pixel Data (7FE0,0010) is left to the sender: it comes last."""

    sop_class_uid: str
    uids: Uids
    header: bytes
    """All that comes before Pixel Data's value, its tag, VR and length included."""
    pixel_bytes: int


def uids(run: int, association: int, number: int) -> Uids:
    """Return the UIDs of an instance: a series has `_SERIES_LENGTH` of them, an association is one study.

    Parameters
    ----------
    run : int
        What tells one run of a sender from all others: below 10**14.
    association : int
        Below 10**4.
    number : int
        Number of the instance in its association, from 0: below 10**10.
    """

    def uid(kind: int, count: int) -> bytes:
        return b"2.25.1%014d%04d%02d%010d" % (run, association, kind, count)

    return Uids(study=uid(1, 0), series=uid(2, number // _SERIES_LENGTH), instance=uid(3, number))


def ct_image(of: Uids) -> DataSet:
    """Make a CT image of 512 x 512 x 16 bits with a header of some hundred elements: 526 KB in all."""
    return _data_set(CT_IMAGE_STORAGE, of, frames=None, pixel_bytes=FRAME_BYTES)


def multi_frame(of: Uids, frames: int) -> DataSet:
    """Make a Multi-frame Grayscale Word Secondary Capture image: 2,048 frames have 1 GiB of pixels."""
    return _data_set(MULTI_FRAME_GRAYSCALE_WORD_STORAGE, of, frames, FRAME_BYTES * frames)


def small_image(of: Uids, values: Mapping[int, str]) -> DataSet:
    """Make a CT image of one pixel with the same header, but for these values by tag: 4 KB in all."""
    own: dict[int, str | int] = {**values, 0x00080005: "ISO_IR 192", 0x00280010: 1, 0x00280011: 1}
    return _data_set(CT_IMAGE_STORAGE, of, frames=None, pixel_bytes=2, own=own)


def pixels(length: int) -> bytes:
    """Return bytes that no disk and no file system can make smaller, the same ones each time."""
    return random.Random(length).randbytes(length)


def _data_set(
    sop_class_uid: str,
    of: Uids,
    frames: int | None,
    pixel_bytes: int,
    own: Mapping[int, str | int] | None = None,
) -> DataSet:
    fixed = [(tag, vr, (own or {}).get(tag, value)) for tag, vr, value in _FIXED]
    varying: list[tuple[int, str, str | int]] = [
        (0x00080016, "UI", sop_class_uid),
        (0x00080018, "UI", of.instance.decode("ascii")),
        (0x0020000D, "UI", of.study.decode("ascii")),
        (0x0020000E, "UI", of.series.decode("ascii")),
        (0x00200052, "UI", of.study.decode("ascii") + ".1"),
    ]
    if frames is not None:
        varying.append((0x00280008, "IS", str(frames)))
    header = b"".join(_element(tag, vr, _value(vr, value)) for tag, vr, value in sorted((*fixed, *varying)))
    return DataSet(sop_class_uid, of, header + _element_head(0x7FE00010, b"OW", pixel_bytes), pixel_bytes)


def _value(vr: str, value: str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<H", value)
    encoded = value.encode("utf-8")
    return encoded if len(encoded) % 2 == 0 else encoded + (b"\0" if vr == "UI" else b" ")


def _element(tag: int, vr: str, value: bytes) -> bytes:
    return _element_head(tag, vr.encode("ascii"), len(value)) + value


def _element_head(tag: int, vr: bytes, length: int) -> bytes:
    """Encode what stands before a value in Explicit VR Little Endian (PS3.5 7.1.2)."""
    if vr in _LONG_VALUE_REPRESENTATIONS:
        return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
