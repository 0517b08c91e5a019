"""A data set of which people have corrected attributes, on its way out (design, rule 5).

Corrected attributes are put in the place of those that are stored, or in where there are none. All else
stays as it is, byte by byte: what is nested in sequences, the pixel data, private attributes. Only where a
corrected text has characters that are not in the data set's own character set is all its text put into UTF-8,
and the lengths of sequences become undefined, so that none has to be held to its end.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from cluster.dicom.character_sets import DEFAULT, TEXT_VRS, UTF_8, Repertoire, repertoire
from cluster.dicom.elements import SPECIFIC_CHARACTER_SET, VR_OF_16_BIT_LENGTH, VR_OF_32_BIT_LENGTH
from cluster.dicom.transfer_syntaxes import EXPLICIT_VR_BE, IMPLICIT_VR_LE
from storage_node.services.element_stream import UNDEFINED, ElementStream, Header, Steps

if TYPE_CHECKING:
    from cluster.nouns import Buffer

_PIXEL_DATA: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_PADDING: Final = 0x00000000
"""What NULs look like that a sender has put behind the data set."""
_GROUP_8_LENGTH: Final = 0x00080000
_LENGTH_TO_END: Final = 0x00080001
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_BEHIND_ALL: Final = 0xFFFFFFFF
_IMPLICIT_INSIDE: Final = (None, "UN")
"""VRs of elements whose items are in Implicit VR (PS3.5 6.2.2, note 2)."""
_VRS: Final = frozenset(vr.encode() for vr in VR_OF_16_BIT_LENGTH | VR_OF_32_BIT_LENGTH)
_DEPTH_LIMIT: Final = 256
_TEXT_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Largest text that is put into UTF-8: it is held in memory."""


class NotCorrectable(Exception):
    """No corrected copy can be made of what is stored; the message quotes nothing of it."""


class Rewriter:
    """Corrects a data set while its bytes pass through, in pieces of any size.

    Parameters
    ----------
    transfer_syntax_uid : str
        Any that is not Implicit VR Little Endian or Explicit VR Big Endian counts as Explicit VR Little
        Endian (PS3.5 A.4). Implicit and Explicit VR are told apart by the first element, too, as where it was
        stored. What is deflated has to be inflated first.
    texts : mapping of int to str
        Texts by tags: of attributes whose values are text, all of them before the pixel data.
    """

    def __init__(self, transfer_syntax_uid: str, texts: Mapping[int, str]) -> None:
        self.is_through = False
        """Whether all corrections are made: what else comes passes as it is."""
        self._stream = ElementStream(is_big_endian=transfer_syntax_uid == EXPLICIT_VR_BE)
        self._explicit = transfer_syntax_uid != IMPLICIT_VR_LE
        self._texts = dict(sorted(texts.items()))
        self._missing = deque(self._texts)
        self._changed = {*texts, _LENGTH_TO_END}
        self._groups = {tag >> 16 for tag in texts}
        self._own: Repertoire | None = None
        self._withheld = b""
        self._transcodes = False
        self._steps = self._data_set()

    def feed(self, data: Buffer) -> Buffer:
        """Take the next bytes, and return those that go out instead of them.

        Raises
        ------
        NotCorrectable
        """
        if self.is_through:
            return data
        self._stream.feed(data)
        return self._go_on()

    def close(self) -> Buffer:
        """Say that the data set ends here, and return the last bytes that go out.

        Raises
        ------
        NotCorrectable
        """
        self._stream.close()
        return b"" if self.is_through else self._go_on()

    def _go_on(self) -> bytes:
        try:
            next(self._steps)
        except StopIteration:
            self.is_through = True
            self._stream.write(self._stream.rest())
        return self._stream.written()

    def _data_set(self) -> Steps[None]:
        stream = self._stream
        yield from self._begin()
        while True:
            if self._own is not None and not self._transcodes:
                before = self._missing[0] if self._missing else min(_PIXEL_DATA)
                stream.pass_plain(before, self._changed, explicit=self._explicit)
            header = yield from stream.header(explicit=self._explicit)
            if header is None or header.tag in _PIXEL_DATA or header.tag == _PADDING:
                break
            if self._own is None and self._is_withheld(header.tag):
                value = yield from stream.take(header.length)
                self._withheld += header.raw + value
                if header.tag == SPECIFIC_CHARACTER_SET:
                    self._decide(value)
                continue
            self._put_in(header.tag)
            stream.is_muted = header.tag in self._texts or self._is_no_longer_so(header.tag)
            yield from self._element(header, self._own or DEFAULT)
            stream.is_muted = False
        self._put_in(_BEHIND_ALL)
        if header is not None:
            stream.write(header.raw)

    def _begin(self) -> Steps[None]:
        """Let a File Meta group pass that should not be there, then see how the data set is encoded."""
        stream = self._stream
        while (yield from stream.peek(2)) == b"\x02\x00":
            header = yield from stream.header(explicit=True)
            if header is None:
                return
            stream.write(header.raw)
            yield from stream.copy(header.length)
        vr = (yield from stream.peek(6))[4:]
        if vr:  # read by the rule by which it was read when it was stored
            self._explicit = vr.isalpha() and vr.isupper() if self._explicit else vr in _VRS

    def _decide(self, value: bytes) -> None:
        """Choose the character set that goes out, now that the one that is stored is known."""
        own = self._own = repertoire(value)
        foreign = [(tag, text) for tag, text in self._texts.items() if not text.isascii()]
        self._transcodes = not all(
            own.is_known and own.encode(text, dictionary_vr(tag)) is not None for tag, text in foreign
        )
        self._stream.write(self._utf_8(explicit=self._explicit) if self._transcodes else self._withheld)

    def _put_in(self, before: int) -> None:
        """Write what is corrected and stands before an element, or in its place."""
        if self._own is None and before > SPECIFIC_CHARACTER_SET:
            self._decide(b"")
        while self._missing and self._missing[0] <= before:
            tag = self._missing.popleft()
            vr = dictionary_vr(tag)
            self._stream.write(self._encoded(tag, vr, vr if self._explicit else None, self._texts[tag]))

    def _is_withheld(self, tag: int) -> bool:
        """Whether an element goes out only where text stays in the character set that it is stored in."""
        return tag == SPECIFIC_CHARACTER_SET or (tag == _GROUP_8_LENGTH and 8 not in self._groups)

    def _is_no_longer_so(self, tag: int) -> bool:
        """Whether an element says a length (PS3.5 7.2) or a character set that is another by now."""
        if self._transcodes and (tag == SPECIFIC_CHARACTER_SET or not tag & 0xFFFF):
            return True
        return tag == _LENGTH_TO_END or (tag >> 16 in self._groups and not tag & 0xFFFF)

    def _element(self, header: Header, stored_in: Repertoire, depth: int = 0) -> Steps[None]:
        """Let an element pass, its text in another character set if need be."""
        if header.length == UNDEFINED:
            yield from self._sequence(header, stored_in, depth)
            return
        if self._transcodes:
            vr = header.vr if header.vr not in _IMPLICIT_INSIDE else dictionary_vr(header.tag)
            if vr in TEXT_VRS:
                yield from self._text(header, vr, stored_in)
                return
            if vr == "SQ" and (yield from self._begins_with_item()):
                yield from self._sequence(header, stored_in, depth)
                return
        self._stream.write(header.raw)
        yield from self._stream.copy(header.length)

    def _begins_with_item(self) -> Steps[bool]:
        start = yield from self._stream.peek(4)
        return start == self._stream.header_of(_ITEM, None, 0)[:4]

    def _text(self, header: Header, vr: str, stored_in: Repertoire) -> Steps[None]:
        if header.length > _TEXT_LIMIT_BYTES:
            raise NotCorrectable(f"a text of {header.length} bytes is too long to be put into UTF-8")
        value = yield from self._stream.take(header.length)
        if value.isascii() and b"\x1b" not in value:
            self._stream.write(header.raw + value)
        else:
            self._stream.write(self._encoded(header.tag, vr, header.vr, stored_in.decode(value, vr)))

    def _encoded(self, tag: int, vr: str, written_vr: str | None, text: str) -> bytes:
        """Return an element with a text, in the character set that goes out."""
        character_set = UTF_8 if self._transcodes else self._own or DEFAULT
        value = character_set.encode(text, vr) if vr in TEXT_VRS else None
        if value is None:
            value = text.encode("utf_8", "replace")
        return self._stream.encoded(tag, written_vr, value + b" " * (len(value) % 2))

    def _utf_8(self, *, explicit: bool) -> bytes:
        value = "\\".join(UTF_8.terms).encode()
        return self._stream.encoded(SPECIFIC_CHARACTER_SET, "CS" if explicit else None, value)

    def _sequence(self, header: Header, stored_in: Repertoire, depth: int) -> Steps[None]:
        """Let the items of a sequence pass (PS3.5 7.5)."""
        if depth == _DEPTH_LIMIT:
            raise NotCorrectable(f"sequences are nested more than {_DEPTH_LIMIT} deep")
        stream, explicit = self._stream, header.vr not in _IMPLICIT_INSIDE
        end = self._open(header)
        while end is None or stream.position < end:
            item = yield from stream.header(explicit=False)
            if item is None:
                return
            if item.tag == _ITEM:
                yield from self._item(item, stored_in, explicit=explicit, depth=depth + 1)
                continue
            if item.tag not in (_ITEM_END, _SEQUENCE_END):
                raise NotCorrectable("in a sequence stands something else where an item should")
            if end is None:
                stream.write(item.raw)
                if item.tag == _SEQUENCE_END:
                    return
        if end is not None:
            stream.write(stream.header_of(_SEQUENCE_END, None, 0))

    def _item(self, item: Header, stored_in: Repertoire, *, explicit: bool, depth: int) -> Steps[None]:
        stream = self._stream
        if item.length != UNDEFINED and not self._transcodes:
            stream.write(item.raw)
            yield from stream.copy(item.length)
            return
        end = self._open(item)
        while end is None or stream.position < end:
            if not self._transcodes:
                stream.pass_plain(_ITEM, (), explicit=explicit)
            header = yield from stream.header(explicit=explicit)
            if header is None:
                return
            if header.tag in (_ITEM_END, _SEQUENCE_END) and end is None:
                if header.tag == _SEQUENCE_END:  # the item's own delimiter was left out
                    stream.unread(header)
                else:
                    stream.write(header.raw)
                return
            if self._transcodes and header.tag == SPECIFIC_CHARACTER_SET:
                stored_in = repertoire((yield from stream.take(header.length)))
                stream.write(self._utf_8(explicit=explicit))
            elif self._transcodes and not header.tag & 0xFFFF:
                yield from stream.take(header.length)
            else:
                yield from self._element(header, stored_in, depth)
        stream.write(stream.header_of(_ITEM_END, None, 0))

    def _open(self, header: Header) -> int | None:
        """Write what stands before items or an item; return where these end, None if a delimiter tells."""
        if header.length == UNDEFINED:
            self._stream.write(header.raw)
            return None
        self._stream.write(self._stream.header_of(header.tag, header.vr, UNDEFINED))
        return self._stream.position + header.length


@functools.lru_cache(maxsize=1024)
def dictionary_vr(tag: int) -> str:
    """Return the VR of an attribute by PS3.6, the first if it may have several; UN where it is not there."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "LO" if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
