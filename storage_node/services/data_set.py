"""A data set that is told to a peer: values as they are stored, put into one character set and encoding."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cluster.dicom.character_sets import DEFAULT, TEXT_VRS, UTF_8, Repertoire, repertoire
from cluster.dicom.elements import (
    SPECIFIC_CHARACTER_SET,
    VR_OF_32_BIT_LENGTH,
    Element,
    Elements,
    is_plain,
    vr_of,
)
from cluster.dicom.items import items_of

Wanted: TypeAlias = Mapping[int, "Wanted"]
"""Attributes that items of a sequence shall have, by tag, and those of nested ones; empty for all of them."""

_ITEM: Final = 0xFFFEE000
_LONGEST_OF_16_BIT: Final = 0xFFFE
_DEPTH_LIMIT: Final = 16
_NUL_PADDED: Final = frozenset(("OB", "UI", "UN"))
"""Value Representations that are padded with a NUL (PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its VR: its bytes in the character set that they are stored in, or its items."""

    vr: str
    stored: bytes = b""
    character_set: Repertoire = DEFAULT
    items: tuple[DataSet, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether its bytes mean another text in another character set."""
        return self.vr in TEXT_VRS and not is_plain(self.stored)

    @property
    def text(self) -> str:
        """The text that its bytes stand for."""
        return self.character_set.decode(self.stored, self.vr)

    def encoded(self, character_set: Repertoire) -> bytes:
        """Return its bytes in a character set that has its text; in its own they stay what they are."""
        if not self.is_foreign or character_set.terms == self.character_set.terms:
            return self.stored
        encoded = character_set.encode(self.text, self.vr)
        return self.text.encode("utf_8", "replace") if encoded is None else encoded


DataSet: TypeAlias = Mapping[int, Value]
"""Values by tag."""


def value_of(
    tag: int, element: Element, character_set: Repertoire, wanted: Wanted | None = None, depth: int = 0
) -> Value:
    """Return an element as it is to be told.

    Parameters
    ----------
    tag : int
    element : Element
    character_set : Repertoire
        What its text is stored in, and that of its items where they say nothing else (PS3.5 7.5.3).
    wanted : Wanted, optional
        Which attributes its items shall have (PS3.4 C.2.2.2.6).
    depth : int
        How deep it is nested.
    """
    vr = vr_of(tag, element)
    if vr != "SQ":
        return Value(vr, element.value, character_set)
    return sequence_of(items_of(element), character_set, wanted, depth)


def sequence_of(
    items: Iterable[Elements], character_set: Repertoire, wanted: Wanted | None = None, depth: int = 0
) -> Value:
    """Return items as the sequence that is to be told; the other parameters are those of `value_of`."""
    if depth == _DEPTH_LIMIT:
        return Value("SQ")
    told = (_item(item, character_set, wanted or {}, depth + 1) for item in items)
    return Value("SQ", items=tuple(told))


def wanted_of(identifier: Elements, depth: int = 0) -> Wanted:
    """Return which attributes are wanted of each sequence in an Identifier; all, where its item has none."""
    return {
        tag: _wanted_inside(element, depth)
        for tag, element in identifier.items()
        if vr_of(tag, element) == "SQ"
    }


def choose(values: Iterable[Value], preferred: Iterable[Repertoire]) -> Repertoire:
    """Return the character set to tell values in: none if ASCII will do, else the first that has them all.

    Parameters
    ----------
    values : iterable of Value
    preferred : iterable of Repertoire
        UTF-8 is what comes after these.
    """
    texts = [(value, value.text) for value in _foreign(values)]
    if all(text.isascii() for _, text in texts):
        return DEFAULT
    for character_set in preferred:
        if all(
            character_set.terms == value.character_set.terms
            or character_set.encode(text, value.vr) is not None
            for value, text in texts
        ):
            return character_set
    return UTF_8


def encode(data_set: DataSet, character_set: Repertoire, *, explicit: bool) -> bytes:
    """Return a data set in Explicit or Implicit VR Little Endian (PS3.5 7.1), its text in a character set."""
    parts: list[bytes] = []
    for tag in sorted(data_set):
        value = data_set[tag]
        if value.items:
            content = _encode_items(value.items, character_set, explicit=explicit)
        else:
            content = value.encoded(character_set)
        if len(content) % 2:
            content += b"\0" if value.vr in _NUL_PADDED else b" "
        parts += (_header(tag, value.vr, len(content), explicit=explicit), content)
    return b"".join(parts)


def _item(item: Elements, character_set: Repertoire, wanted: Wanted, depth: int) -> DataSet:
    own = item.get(SPECIFIC_CHARACTER_SET)
    if own is not None:
        character_set = repertoire(own.value)
    tags = set(wanted or item) - {SPECIFIC_CHARACTER_SET}
    return {
        tag: value_of(tag, item.get(tag, Element(None, b"")), character_set, wanted.get(tag), depth)
        for tag in tags
        if tag & 0xFFFF
    }


def _wanted_inside(sequence: Element, depth: int) -> Wanted:
    if depth == _DEPTH_LIMIT:
        return {}
    wanted: dict[int, Wanted] = {}
    for item in items_of(sequence):
        wanted.update({tag: {} for tag in item})
        wanted.update(wanted_of(item, depth + 1))
    return wanted


def _foreign(values: Iterable[Value]) -> Iterator[Value]:
    for value in values:
        if value.is_foreign:
            yield value
        for item in value.items:
            yield from _foreign(item.values())


def _encode_items(items: Iterable[DataSet], character_set: Repertoire, *, explicit: bool) -> bytes:
    contents = [encode(item, character_set, explicit=explicit) for item in items]
    return b"".join(_header(_ITEM, "", len(content), explicit=False) + content for content in contents)


def _header(tag: int, vr: str, length: int, *, explicit: bool) -> bytes:
    """Return what stands before a value (PS3.5 7.1.2, 7.1.3); what is too long for its VR is UN (6.2.2)."""
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return struct.pack("<HHI", group, number, length)
    if vr in VR_OF_32_BIT_LENGTH or length > _LONGEST_OF_16_BIT:
        code = vr if vr in VR_OF_32_BIT_LENGTH else "UN"
        return struct.pack("<HH2sHI", group, number, code.encode(), 0, length)
    return struct.pack("<HH2sH", group, number, vr.encode(), length)
