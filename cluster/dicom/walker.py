"""A walk over the structure of a data set (PS3.5 7) while its bytes arrive, in pieces of any size."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from cluster.dicom.elements import VR_OF_16_BIT_LENGTH, VR_OF_32_BIT_LENGTH
from cluster.dicom.transfer_syntaxes import EXPLICIT_VR_BE, IMPLICIT_VR_LE

_PIXEL_DATA: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_BEHIND_PIXEL_DATA: Final = frozenset((0xFFFAFFFA, 0xFFFCFFFC))
"""Digital Signatures Sequence and Data Set Trailing Padding: what may follow in good order (PS3.3 C.12.1)."""
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_UNDEFINED: Final = 0xFFFFFFFF

_CHUNK_BYTES: Final = 64 * 1024
_DEPTH_LIMIT: Final = 256

_HEADER_BYTES: Final[dict[bytes, int]] = {
    **{vr.encode(): 8 for vr in VR_OF_16_BIT_LENGTH},
    **{vr.encode(): 12 for vr in VR_OF_32_BIT_LENGTH},
}
_VRS: Final = {code: code.decode() for code in _HEADER_BYTES}
_IMPLICIT_INSIDE: Final = (None, "UN")
"""VRs of elements whose items are in Implicit VR (PS3.5 6.2.2, note 2)."""


class HeaderError(Exception):
    """The data set cannot be walked far enough to know what it is."""


class DataSetCutShort(HeaderError):
    """The data set ends in the middle of an element."""


def _keep_nothing(tag: int, vr: str | None, value: bytes) -> None:
    """Take an element, and forget it."""


class Walker:
    """Goes from element to element, and hands over the top-level ones before the pixel data.

    Values that are too large are passed over without being held; so is pixel data, whose structure is
    followed to its end all the same.

    Parameters
    ----------
    transfer_syntax_uid : str
        Any that is not Implicit VR Little Endian or Explicit VR Big Endian counts as Explicit VR Little
        Endian (PS3.5 A.4). Implicit and Explicit VR are told apart by the first element, as pydicom does,
        when a sender is wrong about it.
    value_limit_bytes : int
        Largest value that is handed over.
    keep : callable
        Takes tag, VR (None where it is implicit) and value of an element; a sequence's value is its items.
    """

    def __init__(
        self, transfer_syntax_uid: str, value_limit_bytes: int, keep: Callable[[int, str | None, bytes], None]
    ) -> None:
        self.complete = False
        """Whether pixel data has begun: nothing more is handed over."""
        self.pixel_data_end_bytes: int | None = None
        """How long the data set is at least, by the defined length of its pixel data; None if not known."""
        self.oddities: set[str] = set()
        """What was odd, in words of one kind each."""
        self._value_limit = value_limit_bytes
        self._keep = keep
        self._explicit = transfer_syntax_uid != IMPLICIT_VR_LE
        order = ">" if transfer_syntax_uid == EXPLICIT_VR_BE else "<"
        self._explicit_header = struct.Struct(f"{order}HH2sH").unpack_from
        self._implicit_header = struct.Struct(f"{order}HHI").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from
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
    def missing_bytes(self) -> int:
        """How many bytes the pixel data still lacks by its length, or the fragment or what is behind it."""
        return self._skip if self.complete else 0

    @property
    def held_bytes(self) -> int:
        """How much of the data set is held, because it does not make a whole element yet."""
        return len(self._carry) + len(self._captured or b"")

    def feed(self, view: memoryview) -> None:
        """Take the next bytes of the data set.

        Raises
        ------
        HeaderError
            The structure cannot be followed.
        """
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

    def stop(self) -> None:
        """Take no more notice of anything."""
        self._step, self._carry, self._skip = None, b"", 0

    def close(self) -> None:
        """Say that the data set ends here.

        Raises
        ------
        DataSetCutShort
            It ends in the middle of an element before the pixel data.
        """
        step, self._step = self._step, None
        self._keep = _keep_nothing  # it leads back to who holds this, which would wait for a collector
        if step is None:
            return
        if self.complete:
            if self._is_cut_in_a_header(step):
                self._skip = 1
            elif not self._skip and step == self._fragments:
                self.oddities.add("no_sequence_delimiter")
            return
        if self._skip or self._nesting or self._carry.strip(b"\0"):
            raise DataSetCutShort(f"the data set ends within an element, after {self._position} bytes")
        if self._carry:
            self.oddities.add("trailing_padding")

    def _is_cut_in_a_header(self, step: Callable[[bytes, int], int]) -> bool:
        """Whether what is left, at the end, begins an item or an element of the pixel data or behind it."""
        if step != self._trailer:
            return bool(self._carry.strip(b"\0"))
        return len(self._carry) >= 4 and self._tag(self._carry.ljust(8, b"\0"), 0) in _BEHIND_PIXEL_DATA

    def _start(self, data: bytes, position: int) -> int:
        """Pass over a File Meta group that should not be there, then see how the data set is encoded."""
        while len(data) - position >= 8:
            if data[position : position + 2] != b"\x02\x00":
                self._tell_encoding(data[position + 4 : position + 6])
                self._step = self._elements
                return position
            self.oddities.add("group_2")
            size = _HEADER_BYTES.get(data[position + 4 : position + 6])
            if size == 12 and len(data) - position < 12:
                break
            width, size = (2, 8) if size == 8 else (4, size or 8)
            length = int.from_bytes(data[position + size - width : position + size], "little")
            stop = position + size + length
            if stop > len(data):
                self._skip = stop - len(data)
                return len(data)
            position = stop
        return position

    def _tell_encoding(self, vr: bytes) -> None:
        found = vr in _HEADER_BYTES if not self._explicit else b"AA" <= vr <= b"ZZ" and vr.isupper()
        if found != self._explicit:
            self._explicit = found
            self.oddities.add("wrong_transfer_syntax")

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
                self.oddities.add("odd_length")
            if not tag & 0xFFFF:
                self.oddities.add("group_length")
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
                self.oddities.add("wrong_vr")
                return group << 16 | number, code.decode("latin_1"), length, 8
            if vr in VR_OF_32_BIT_LENGTH:
                if len(data) - position < 12:
                    return None
                (length,) = self._long(data, position + 8)
                return group << 16 | number, vr, length, 12
            if vr is not None:
                return group << 16 | number, vr, length, 8
            self.oddities.add("wrong_vr")
        group, number, length = self._implicit_header(data, position)
        return group << 16 | number, None, length, 8

    def _wait_or_skip(self, position: int, stop: int, end: int, *, wait: bool) -> int:
        """Wait for an element's value that ends behind the data, or pass over it as it comes."""
        if wait:
            return position
        self._skip = stop - end
        return end

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
                self.oddities.add("unreadable_structure")
                self._step = None
                return end
            stop = position + 8 + length
            if stop > end:
                self._skip = stop - end
                return end
            position = stop
        return position

    def _trailer(self, data: bytes, position: int) -> int:
        """Pass over what may stand behind the pixel data, and take no notice of what should not."""
        end = len(data)
        while end - position >= 8:
            if self._tag(data, position) not in _BEHIND_PIXEL_DATA:
                self._step = None
                return end
            header = self._element_header(data, position, self._explicit)
            if header is None:
                return position
            _, _, length, size = header
            if length == _UNDEFINED:
                self._step = None
                return end
            stop = position + size + length
            if stop > end:
                self._skip = stop - end
                return end
            position = stop
        return position

    def _tag(self, data: bytes, position: int) -> int:
        group, number, _ = self._implicit_header(data, position)
        return int(group << 16 | number)
