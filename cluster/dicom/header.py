"""The header of a data set, read while it arrives: identity, what is odd, and what is kept of it.

It reads what others send, so it takes what pydicom takes, holds a bounded part of it, and knows two faults
only: the structure cannot be followed before the identity was read, or the data set ends in its middle.
"""

from __future__ import annotations

import re
import zlib
from typing import Final, TypeAlias

from cluster.dicom.elements import Element, repertoire_of
from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE, EXPLICIT_VR_BE
from cluster.dicom.uids import LONGEST_UID
from cluster.dicom.walker import DataSetCutShort, HeaderError, Walker

__all__ = ["DataSetCutShort", "HeaderError", "HeaderReader"]

Buffer: TypeAlias = bytes | bytearray | memoryview

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
_IDENTITY: Final = (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)

_EXPECTED_VR: Final = {**dict.fromkeys(_IDENTITY, "UI"), 0x00080005: "CS", 0x00100010: "PN", PATIENT_ID: "LO"}

_INFLATE_BYTES: Final = 64 * 1024
_INFLATED_LIMIT_BYTES: Final = 256 * 1024 * 1024
_VALID_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")

_SWAP_BYTES: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}


class HeaderReader:
    """Reads a data set's header from its bytes, fed in order and in pieces of any size.

    Kept are the top-level elements before the pixel data, as far as the limits go. The structure is followed
    to its end; that of a deflated data set as far as a limit goes.

    Parameters
    ----------
    transfer_syntax_uid : str
        As for `Walker`; or deflated.
    value_limit_bytes : int
        Largest value that is kept.
    limit_bytes : int
        How much is kept in all; private elements get at most half of it.
    """

    def __init__(
        self, transfer_syntax_uid: str, *, value_limit_bytes: int = 1024, limit_bytes: int = 64 * 1024
    ) -> None:
        self.elements: dict[int, Element] = {}
        """What is kept, by tag. The last of two elements of one tag counts."""
        self.complete = False
        """Whether all of the header has been read: pixel data has begun, or nothing more can be read."""
        self._room = {False: limit_bytes - limit_bytes // 2, True: limit_bytes // 2}
        self._is_big_endian = transfer_syntax_uid == EXPLICIT_VR_BE
        self._is_deflated = transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LE
        self._inflates = self._is_deflated
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._inflated_bytes = 0
        self._walker = Walker(transfer_syntax_uid, value_limit_bytes, self._keep)
        self._oddities = self._walker.oddities

    @property
    def sop_class_uid(self) -> str | None:
        """SOP Class UID (0008,0016) without padding; None when missing or empty."""
        return self._uid(SOP_CLASS_UID)

    @property
    def sop_instance_uid(self) -> str | None:
        """SOP Instance UID (0008,0018) without padding; None when missing or empty."""
        return self._uid(SOP_INSTANCE_UID)

    @property
    def study_instance_uid(self) -> str | None:
        """Study Instance UID (0020,000D) without padding; None when missing or empty."""
        return self._uid(STUDY_INSTANCE_UID)

    @property
    def series_instance_uid(self) -> str | None:
        """Series Instance UID (0020,000E) without padding; None when missing or empty."""
        return self._uid(SERIES_INSTANCE_UID)

    @property
    def pixel_data_end_bytes(self) -> int | None:
        """How long the data set is at least, by the defined length of its pixel data; None if not known."""
        return None if self._is_deflated else self._walker.pixel_data_end_bytes

    @property
    def missing_bytes(self) -> int:
        """How many bytes the pixel data still lacks by its length, or the fragment or what is behind it."""
        return self._walker.missing_bytes

    @property
    def flags(self) -> tuple[str, ...]:
        """What is odd about the data set so far, sorted, in words of one kind each."""
        odd = set(self._oddities)
        patient_id = self.elements.get(PATIENT_ID)
        if patient_id is None or not patient_id.value.strip(b" \0"):
            odd.add("no_patient_id")
        for uid in map(self._uid, _IDENTITY):
            if uid is not None and (len(uid) > LONGEST_UID or not _VALID_UID.fullmatch(uid)):
                odd.add("invalid_uid")
        for tag, vr in _EXPECTED_VR.items():
            element = self.elements.get(tag)
            if element is not None and element.vr not in (vr, None):
                odd.add("wrong_vr")
        if not repertoire_of(self.elements).is_known:
            odd.add("unknown_character_set")
        return tuple(sorted(odd))

    def feed(self, buffer: Buffer) -> None:
        """Take the next bytes of the data set.

        Raises
        ------
        HeaderError
            The structure cannot be followed, and the identity has not been read.
        """
        view = memoryview(buffer).cast("B")
        try:
            if self._is_deflated:
                self._inflate(view)
            else:
                self._walker.feed(view)
        except HeaderError:
            self._walker.stop()
            self._inflates = False
            if None in map(self._uid, _IDENTITY):
                raise
            # What it is, is known: what is merely odd is not refused.
            self._oddities.add("unreadable_structure")
            self.complete = True
        self.complete = self.complete or self._walker.complete

    def close(self) -> None:
        """Say that the data set ends here.

        Raises
        ------
        DataSetCutShort
            It ends in the middle of an element before the pixel data, or of what is deflated. For the pixel
            data itself see `missing_bytes`.
        """
        self._walker.close()
        if self._inflates and not self._inflater.eof:
            raise DataSetCutShort("the deflated data set ends before its end")

    def _uid(self, tag: int) -> str | None:
        element = self.elements.get(tag)
        return (element.value.decode("latin_1").strip(" \0") or None) if element else None

    def _inflate(self, view: memoryview) -> None:
        """Take bytes of a deflated data set (PS3.5 A.5), to its end or as far as the limit goes."""
        data: Buffer = view
        while data and self._inflates and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(data, _INFLATE_BYTES)
            except zlib.error as error:
                raise HeaderError(f"the deflated data set is damaged: {error}") from error
            data = self._inflater.unconsumed_tail
            self._inflated_bytes += len(piece)
            if self._inflated_bytes > _INFLATED_LIMIT_BYTES:
                if not self.complete:
                    raise HeaderError("the deflated data set has no end to its header")
                self._inflates = False
                self._walker.stop()
            self._walker.feed(memoryview(piece))
            self.complete = self._walker.complete

    def _keep(self, tag: int, vr: str | None, value: bytes) -> None:
        if tag not in _IDENTITY:
            private = bool(tag >> 16 & 1)
            self._room[private] -= 8 + len(value)
            if self._room[private] < 0:
                self._oddities.add("long_header")
                return
        if self._is_big_endian:
            if vr in (None, "SQ", "UN"):
                return  # what is nested would have to be walked to be turned round
            if (width := _SWAP_BYTES.get(vr)) and len(value) % width == 0:
                value = b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))
        self.elements[tag] = Element(vr, value)
