"""A walker over the elements of a data set while it arrives: identity, what is odd, and a header to keep.

It reads what others send, so it takes what pydicom takes, holds a bounded part of it, and knows two faults
only: the structure cannot be followed before the identity was read, or the data set ends in its middle.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final, TypeAlias

from cluster.dicom.elements import (
    VR_OF_16_BIT_LENGTH,
    VR_OF_32_BIT_LENGTH,
    Element,
    are_known,
    character_sets,
)

Buffer: TypeAlias = bytes | bytearray | memoryview

IMPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
DEFLATED_EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
_IDENTITY: Final = (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)

_EXPECTED_VR: Final = {**dict.fromkeys(_IDENTITY, "UI"), 0x00080005: "CS", 0x00100010: "PN", PATIENT_ID: "LO"}
_PIXEL_DATA: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_UNDEFINED: Final = 0xFFFFFFFF

_CHUNK_BYTES: Final = 64 * 1024
_INFLATED_LIMIT_BYTES: Final = 256 * 1024 * 1024
_DEPTH_LIMIT: Final = 256
_VALID_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_UID_LENGTH: Final = 64

_HEADER_BYTES: Final[dict[bytes, int]] = {
    **{vr.encode(): 8 for vr in VR_OF_16_BIT_LENGTH},
    **{vr.encode(): 12 for vr in VR_OF_32_BIT_LENGTH},
}
_VRS: Final = {code: code.decode() for code in _HEADER_BYTES}
_IMPLICIT_INSIDE: Final = (None, "UN")
"""VRs of elements whose items are in Implicit VR (PS3.5 6.2.2, note 2)."""
_SWAP_BYTES: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}


class HeaderError(Exception):
    """The data set cannot be walked far enough to know what it is."""


class DataSetCutShort(HeaderError):
    """The data set ends in the middle of an element."""


class HeaderReader:
    """Reads a data set's header from its bytes, fed in order and in pieces of any size.

    Kept are the top-level elements before the pixel data, as far as the limits go. Larger values are passed
    over without being held; so is pixel data, whose structure is followed to its end all the same
    (but not in a deflated data set, which is inflated only as far as its header goes).

    Parameters
    ----------
    transfer_syntax_uid : str
        Any that is not Implicit VR Little Endian, Explicit VR Big Endian or deflated counts as Explicit VR
        Little Endian (PS3.5 A.4). Implicit and Explicit VR are told apart by the first element, as pydicom
        does, when a sender is wrong about it.
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
        """Whether all of the header has been read: pixel data has begun."""
        self.pixel_data_end_bytes: int | None = None
        """How long the data set is at least, by the defined length of its pixel data; None if not known."""
        self._value_limit = value_limit_bytes
        self._room = {False: limit_bytes - limit_bytes // 2, True: limit_bytes // 2}
        self._explicit = transfer_syntax_uid != IMPLICIT_LITTLE_ENDIAN
        self._big = transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
        order = ">" if self._big else "<"
        self._explicit_header = struct.Struct(f"{order}HH2sH").unpack_from
        self._implicit_header = struct.Struct(f"{order}HHI").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from
        self._inflater = (
            zlib.decompressobj(-zlib.MAX_WBITS)
            if transfer_syntax_uid == DEFLATED_EXPLICIT_LITTLE_ENDIAN
            else None
        )
        self._inflated_bytes = 0
        self._seen: set[str] = set()
        self._position = 0
        self._carry = b""
        self._skip = 0
        self._nesting: list[tuple[bool, bool]] = []
        """Open sequences and items of undefined length, outermost first: (is an item, explicit inside)."""
        self._outer: tuple[int, str | None] = (0, None)
        self._captured: bytearray | None = None
        self._step: Callable[[bytes, int], int] | None = self._start
        """Goes on in some bytes from a position, and returns the position that it has come to."""

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
    def missing_bytes(self) -> int:
        """How many bytes the pixel data, or the fragment of it that has begun, still lacks by its length."""
        return self._skip if self.complete else 0

    @property
    def flags(self) -> tuple[str, ...]:
        """What is odd about the data set so far, sorted, in words of one kind each."""
        odd = set(self._seen)
        patient_id = self.elements.get(PATIENT_ID)
        if patient_id is None or not patient_id.value.strip(b" \0"):
            odd.add("no_patient_id")
        for uid in map(self._uid, _IDENTITY):
            if uid is not None and (len(uid) > _UID_LENGTH or not _VALID_UID.fullmatch(uid)):
                odd.add("invalid_uid")
        for tag, vr in _EXPECTED_VR.items():
            element = self.elements.get(tag)
            if element is not None and element.vr not in (vr, None):
                odd.add("wrong_vr")
        if not are_known(character_sets(self.elements)):
            odd.add("unknown_character_set")
        return tuple(sorted(odd))

    def feed(self, buffer: Buffer) -> None:
        """Take the next bytes of the data set.

        Raises
        ------
        HeaderError
            The structure cannot be followed, and the identity has not been read.
        """
        if self._step is None:
            return
        view = memoryview(buffer).cast("B")
        try:
            if self._inflater is None:
                self._consume(view)
            else:
                self._inflate(view)
        except HeaderError:
            self._step, self._skip = None, 0
            if None in map(self._uid, _IDENTITY):
                raise
            # What it is, is known: what is merely odd is not refused.
            self._seen.add("unreadable_structure")
            self.complete = True

    def close(self) -> None:
        """Say that the data set ends here.

        Raises
        ------
        DataSetCutShort
            It ends in the middle of an element before the pixel data. For the pixel data itself see
            `missing_bytes`.
        """
        step, self._step = self._step, None
        if step is None:
            return
        if self.complete:
            if self._carry.strip(b"\0"):
                self._skip = self._skip or 8 - len(self._carry)
            elif not self._skip and step == self._fragments:
                self._seen.add("no_sequence_delimiter")
            return
        unfinished = self._inflater is not None and not self._inflater.eof and self._position
        if self._skip or self._nesting or self._carry.strip(b"\0") or unfinished:
            raise DataSetCutShort(f"the data set ends within an element, after {self._position} bytes")
        if self._carry:
            self._seen.add("trailing_padding")

    def _uid(self, tag: int) -> str | None:
        element = self.elements.get(tag)
        return (element.value.decode("latin_1").strip(" \0") or None) if element else None

    def _inflate(self, view: memoryview) -> None:
        """Take bytes of a deflated data set (PS3.5 A.5), as far as the header goes."""
        assert self._inflater is not None
        data: Buffer = view
        while data and not self._inflater.eof and not self.complete:
            try:
                piece = self._inflater.decompress(data, _CHUNK_BYTES)
            except zlib.error as error:
                raise HeaderError(f"the deflated data set is damaged: {error}") from error
            data = self._inflater.unconsumed_tail
            self._inflated_bytes += len(piece)
            if self._inflated_bytes > _INFLATED_LIMIT_BYTES:
                raise HeaderError("the deflated data set has no end to its header")
            self._consume(memoryview(piece))
        if self.complete:
            self._step, self._skip = None, 0

    def _consume(self, view: memoryview) -> None:
        position, end = 0, len(view)
        while position < end and self._step is not None:
            if self._skip:
                passed = min(self._skip, end - position)
                self._skip -= passed
                self._position += passed
                position += passed
                continue
            data = b"".join((self._carry, view[position : position + _CHUNK_BYTES]))
            position = min(position + _CHUNK_BYTES, end)
            done, step = 0, None
            while step is not self._step is not None:
                step = self._step
                done = step(data, done)
            self._position += done
            self._carry = data[done:]

    def _start(self, data: bytes, position: int) -> int:
        """Pass over a File Meta group that should not be there, then see how the data set is encoded."""
        while len(data) - position >= 12:
            if data[position : position + 2] != b"\x02\x00":
                self._tell_encoding(data[position + 4 : position + 6])
                self._step = self._elements
                return position
            self._seen.add("group_2")
            size = _HEADER_BYTES.get(data[position + 4 : position + 6])
            if size == 8:
                length = int.from_bytes(data[position + 6 : position + 8], "little")
            else:
                at = position + (size or 8) - 4
                length = int.from_bytes(data[at : at + 4], "little")
            stop = position + (size or 8) + length
            if stop > len(data):
                self._skip = stop - len(data)
                return len(data)
            position = stop
        return position

    def _tell_encoding(self, vr: bytes) -> None:
        found = vr in _HEADER_BYTES if not self._explicit else b"AA" <= vr <= b"ZZ" and vr.isupper()
        if found != self._explicit:
            self._explicit = found
            self._seen.add("wrong_transfer_syntax")

    def _elements(self, data: bytes, position: int) -> int:
        """Read elements of the top level."""
        end, explicit, value_limit = len(data), self._explicit, self._value_limit
        while end - position >= 8:
            header = self._element_header(data, position, explicit)
            if header is None:
                break
            tag, vr, length, size = header
            if tag in _PIXEL_DATA:
                return self._begin_pixel_data(position + size, end, length)
            if length == _UNDEFINED:
                self._open_sequence(tag, vr)
                return position + size
            stop = position + size + length
            if stop > end:
                return self._wait_or_skip(position, stop, end, wait=length <= value_limit)
            if length & 1:
                self._seen.add("odd_length")
            if not tag & 0xFFFF:
                self._seen.add("group_length")
            if length <= value_limit:
                self._keep(tag, vr, data[position + size : stop])
            position = stop
        return position

    def _element_header(
        self, data: bytes, position: int, explicit: bool
    ) -> tuple[int, str | None, int, int] | None:
        """Return tag, VR, length of the value and size of these; None when not all of it is there.

        What stands where a VR should, and is none, is taken for a part of an implicit element's length; two
        capitals that are no VR are taken for one whose length has 16 bits. Both as pydicom does.
        """
        if explicit:
            group, number, code, length = self._explicit_header(data, position)
            vr = _VRS.get(code)
            if vr is None and b"AA" <= code <= b"ZZ":
                self._seen.add("wrong_vr")
                return group << 16 | number, code.decode("latin_1"), length, 8
            if vr in VR_OF_32_BIT_LENGTH:
                if len(data) - position < 12:
                    return None
                (length,) = self._long(data, position + 8)
                return group << 16 | number, vr, length, 12
            if vr is not None:
                return group << 16 | number, vr, length, 8
            self._seen.add("wrong_vr")
        group, number, length = self._implicit_header(data, position)
        return group << 16 | number, None, length, 8

    def _wait_or_skip(self, position: int, stop: int, end: int, *, wait: bool) -> int:
        """Wait for an element's value that ends behind the data, or pass over it as it comes."""
        if wait:
            return position
        self._skip = stop - end
        return end

    def _keep(self, tag: int, vr: str | None, value: bytes) -> None:
        if tag not in _IDENTITY:
            private = bool(tag >> 16 & 1)
            self._room[private] -= 8 + len(value)
            if self._room[private] < 0:
                self._seen.add("long_header")
                return
        if self._big:
            if vr in (None, "SQ", "UN"):
                return  # what is nested would have to be walked to be turned round
            if (width := _SWAP_BYTES.get(vr)) and len(value) % width == 0:
                value = b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))
        self.elements[tag] = Element(vr, value)

    def _open_sequence(self, tag: int, vr: str | None) -> None:
        self._nesting.append((False, vr not in _IMPLICIT_INSIDE))
        self._outer = (tag, vr)
        self._captured = bytearray()
        self._step = self._sequence

    def _sequence(self, data: bytes, position: int) -> int:
        """Read what is nested in a sequence of undefined length, until it ends."""
        begin, end = position, len(data)
        while end - position >= 8:
            group, number, length = self._implicit_header(data, position)
            tag = group << 16 | number
            if tag in (_ITEM_END, _SEQUENCE_END):
                self._end_nesting(tag)
                position += 8
                if self._nesting:
                    continue
                self._close_sequence(data[begin : position - 8])
                return position
            nested = self._nested_header(data, position, tag, length)
            if nested is None:
                break
            length, size, explicit = nested
            if length == _UNDEFINED:
                self._nest(tag == _ITEM, explicit)
                position += size
                continue
            stop = position + size + length
            if stop > end:
                wait = self._captured is not None and len(self._captured) + stop - begin <= self._value_limit
                if not wait:
                    self._captured = None
                position = self._wait_or_skip(position, stop, end, wait=wait)
                break
            position = stop
        self._capture(data[begin:position])
        return position

    def _nested_header(
        self, data: bytes, position: int, tag: int, length: int
    ) -> tuple[int, int, bool] | None:
        """Return length and header size of an item or an element in one, and if its inside is explicit."""
        in_item, explicit = self._nesting[-1]
        if tag == _ITEM:
            return length, 8, explicit
        if not in_item:
            raise HeaderError(
                f"({tag >> 16:04X},{tag & 0xFFFF:04X}) stands in a sequence where an item should"
            )
        header = self._element_header(data, position, explicit)
        if header is None:
            return None
        _, vr, length, size = header
        return length, size, vr not in _IMPLICIT_INSIDE

    def _nest(self, is_item: bool, explicit: bool) -> None:
        if len(self._nesting) == _DEPTH_LIMIT:
            raise HeaderError(f"sequences are nested more than {_DEPTH_LIMIT} deep")
        self._nesting.append((is_item, explicit))

    def _close_sequence(self, nested: bytes) -> None:
        self._capture(nested)
        if self._captured is not None:
            self._keep(*self._outer, bytes(self._captured))
        self._step = self._elements

    def _end_nesting(self, delimiter: int) -> None:
        """Close what a delimitation item ends; one that ends nothing is passed over."""
        in_item = self._nesting[-1][0]
        if delimiter == _SEQUENCE_END:
            del self._nesting[-2 if in_item else -1 :]
        elif in_item:
            self._nesting.pop()

    def _capture(self, nested: bytes) -> None:
        if self._captured is not None:
            self._captured += nested
            if len(self._captured) > self._value_limit:
                self._captured = None

    def _begin_pixel_data(self, position: int, end: int, length: int) -> int:
        self.complete = True
        if length == _UNDEFINED:
            self._step = self._fragments
            return position
        self._step = self._trailer
        if self._inflater is None:
            self.pixel_data_end_bytes = self._position + position + length
        stop = position + length
        self._skip = max(0, stop - end)
        return min(stop, end)

    def _fragments(self, data: bytes, position: int) -> int:
        """Pass over the items of encapsulated pixel data (PS3.5 A.4)."""
        end = len(data)
        while end - position >= 8:
            group, number, length = self._implicit_header(data, position)
            tag = group << 16 | number
            if tag == _SEQUENCE_END:
                self._step = self._trailer
                return position + 8
            if tag != _ITEM:
                self._seen.add("unreadable_structure")
                self._step = None
                return end
            stop = position + 8 + length
            if stop > end:
                self._skip = stop - end
                return end
            position = stop
        return position

    def _trailer(self, data: bytes, position: int) -> int:
        """Take no notice of what comes after the pixel data."""
        if position < len(data):
            self._step = None
        return len(data)
