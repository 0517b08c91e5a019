"""A data set that passes through: read element by element, in pieces of any size, and written as it comes.

What reads it are generators: they yield where they need more bytes than have come.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Generator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from cluster.dicom.elements import VR_OF_16_BIT_LENGTH, VR_OF_32_BIT_LENGTH

if TYPE_CHECKING:
    from cluster.nouns import Buffer

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""Goes on whenever more bytes have come, and returns in the end."""

UNDEFINED: Final = 0xFFFFFFFF
"""Undefined length (PS3.5 7.1)."""
_DELIMITING_GROUP: Final = 0xFFFE
_LONGEST_OF_16_BIT: Final = 0xFFFE
_VRS: Final = {vr.encode(): vr for vr in VR_OF_16_BIT_LENGTH | VR_OF_32_BIT_LENGTH}


class Header(NamedTuple):
    """What stands before a value."""

    tag: int
    vr: str | None
    """As it is written; None where it is implicit, and of items."""
    length: int
    raw: bytes


class ElementStream:
    """Bytes of a data set that came and were not read yet, and bytes that are to go out.

    Parameters
    ----------
    is_big_endian : bool
    """

    def __init__(self, *, is_big_endian: bool) -> None:
        self.is_muted = False
        """Whether what is written is let go."""
        self._order = order = ">" if is_big_endian else "<"
        self._explicit_header = struct.Struct(f"{order}HH2sH").unpack_from
        self._implicit_header = struct.Struct(f"{order}HHI").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from
        self._came = bytearray()
        self._at = 0
        self._before = 0
        self._is_at_end = False
        self._written: list[bytes] = []

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._before + self._at

    def feed(self, data: Buffer) -> None:
        """Take the next bytes."""
        del self._came[: self._at]
        self._before += self._at
        self._at = 0
        self._came += data

    def close(self) -> None:
        """Say that no more bytes come."""
        self._is_at_end = True

    def written(self) -> bytes:
        """Return what was written since the last time."""
        out = b"".join(self._written)
        self._written.clear()
        return out

    def rest(self) -> bytes:
        """Return what came and was not read, and read it."""
        data = self._read(len(self._came) - self._at)
        self.feed(b"")
        return data

    def write(self, data: bytes) -> None:
        """Let bytes go out."""
        if not self.is_muted:
            self._written.append(data)

    def peek(self, size: int) -> Steps[bytes]:
        """Return the next bytes without reading them; at the end as many as there are."""
        while len(self._came) - self._at < size and not self._is_at_end:
            yield
        return bytes(self._came[self._at : self._at + size])

    def take(self, size: int) -> Steps[bytes]:
        """Read bytes; at the end as many as there are."""
        yield from self.peek(size)
        return self._read(size)

    def copy(self, size: int) -> Steps[None]:
        """Let the next bytes pass as they are, without holding them."""
        while size:
            data = self._read(size)
            self.write(data)
            size -= len(data)
            if size:
                if self._is_at_end:
                    return
                yield

    def pass_plain(self, before: int, but: Container[int], *, explicit: bool) -> None:
        """Let elements pass as they are, for as long as each of them is plain and has come as a whole.

        It is if its length is defined, and none of a group; nothing else has to look at it then.

        Parameters
        ----------
        before : int
            The tag that they are all less than.
        but : container of int
            Tags of those that do not pass.
        explicit : bool
        """
        came, begin, end = self._came, self._at, len(self._came)
        at = begin
        while end - at >= 8:
            group, number, length = self._implicit_header(came, at)
            tag, size = group << 16 | number, 8
            if tag >= before or not number or tag in but:
                break
            if explicit:
                _, _, code, short = self._explicit_header(came, at)
                if code not in _VRS:
                    break
                if _VRS[code] in VR_OF_16_BIT_LENGTH:
                    length = short
                elif end - at >= 12:
                    (length,), size = self._long(came, at + 8), 12
                else:
                    break
            if at + size + length > end:  # so is what is of undefined length
                break
            at += size + length
        if at > begin:
            self.write(self._read(at - begin))

    def header(self, *, explicit: bool) -> Steps[Header | None]:
        """Read what stands before a value; None where the bytes end before its end.

        What stands where a VR should, and is none, is taken for a part of an implicit element's length; two
        capitals that are no VR are taken for one whose length has 16 bits. Both as pydicom does.
        """
        start = yield from self.peek(8)
        if len(start) < 8:
            return None
        group, number, length = self._implicit_header(start)
        vr, size = None, 8
        if explicit and group != _DELIMITING_GROUP:
            _, _, code, short = self._explicit_header(start)
            vr = _VRS.get(code)
            if vr in VR_OF_32_BIT_LENGTH:
                start = yield from self.peek(12)
                if len(start) < 12:
                    return None
                (length,), size = self._long(start, 8), 12
            elif vr is not None or (code.isalpha() and code.isupper()):
                vr, length = code.decode("ascii"), short
        return Header(group << 16 | number, vr, length, self._read(size))

    def unread(self, header: Header) -> None:
        """Go back to before the header that was read last."""
        self._at -= len(header.raw)

    def encoded(self, tag: int, vr: str | None, value: bytes) -> bytes:
        """Return an element, in Explicit VR if it has a VR; too long for that it is UN (PS3.5 6.2.2)."""
        return self.header_of(tag, vr, len(value)) + value

    def header_of(self, tag: int, vr: str | None, length: int) -> bytes:
        """Return what stands before a value (PS3.5 7.1.2, 7.1.3)."""
        group, number = tag >> 16, tag & 0xFFFF
        if vr is None:
            return struct.pack(f"{self._order}HHI", group, number, length)
        if vr in VR_OF_32_BIT_LENGTH or length > _LONGEST_OF_16_BIT:
            code = vr if vr in VR_OF_32_BIT_LENGTH else "UN"
            return struct.pack(f"{self._order}HH2sHI", group, number, code.encode(), 0, length)
        return struct.pack(f"{self._order}HH2sH", group, number, vr.encode(), length)

    def _read(self, size: int) -> bytes:
        data = bytes(self._came[self._at : self._at + size])
        self._at += len(data)
        return data
