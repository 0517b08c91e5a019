"""Specific Character Set (0008,0005): what the bytes of a text stand for (PS3.5 6.1, PS3.3 C.12.1.1.2).

Others misspell its Defined Terms, or lie: whatever it says, any bytes can be decoded.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, NamedTuple

from cluster.dicom import iso_2022
from cluster.dicom.iso_2022 import CodeElement, Sets

TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""Value Representations whose values are in the specific character set (PS3.5 6.1.2.3)."""

_DELIMITERS: Final = {"PN": b"\\^=", "LT": b"", "ST": b"", "UT": b""}
"""What delimits, by VR: names have components and groups, and long texts have no second value (PS3.5 6.2)."""


class _Set(NamedTuple):
    codecs: tuple[str, ...]
    """What reads a text without escape sequences: the first codec that can, or the last one."""
    elements: tuple[CodeElement, ...]


def _single_byte(element: CodeElement) -> _Set:
    return _Set((element.codec,), (iso_2022.ASCII, element))


_REGISTERED: Final = {
    "6": _Set(("latin_1",), (iso_2022.ASCII,)),
    "13": _Set(("shift_jis",), (iso_2022.ROMAJI, iso_2022.KATAKANA)),
    "58": _Set(("gb2312",), (iso_2022.GB_2312,)),
    "87": _Set(("shift_jis", "latin_1"), (iso_2022.JIS_X_0208,)),
    "100": _single_byte(iso_2022.LATIN_1),
    "101": _single_byte(iso_2022.LATIN_2),
    "109": _single_byte(iso_2022.LATIN_3),
    "110": _single_byte(iso_2022.LATIN_4),
    "126": _single_byte(iso_2022.GREEK),
    "127": _single_byte(iso_2022.ARABIC),
    "138": _single_byte(iso_2022.HEBREW),
    "144": _single_byte(iso_2022.CYRILLIC),
    "148": _single_byte(iso_2022.LATIN_5),
    "149": _Set(("euc_kr",), (iso_2022.KS_X_1001,)),
    "159": _Set(("shift_jis", "latin_1"), (iso_2022.JIS_X_0212,)),
    "166": _single_byte(iso_2022.THAI),
    "203": _single_byte(iso_2022.LATIN_9),
}
"""Sets by their number in the international register (PS3.3 tables C.12-2 to C.12-4).

Of Japanese text without escape sequences, which there should be none of, Shift JIS is what it is as a rule.
"""
_ALONE: Final = {"ISO_IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gbk", "ISO 2022 GBK": "gbk"}
"""Sets without code extensions (PS3.3 table C.12-5), and one that PS3.3 once misspelt."""

_MULTI_BYTE: Final = frozenset(("58", "87", "149", "159"))
_KNOWN: Final = frozenset(
    (
        *("", "ISO 2022 58", *_ALONE),
        *(f"ISO_IR {number}" for number in _REGISTERED.keys() - _MULTI_BYTE),
        *(f"ISO 2022 IR {number}" for number in _REGISTERED),
    )
)

_VALUE_LIMIT_BYTES: Final = 1024
"""How much of a value is looked at: all Defined Terms together are shorter."""

_NUMBERED: Final = re.compile(r"ISO\W*_*(?:2022)?[\W_]*(?:IR)?[\W_]*(\d{1,3})")
_MISNAMED: Final = tuple(
    (re.compile(pattern), codec)
    for pattern, codec in (
        (r"UTF[-_ ]?8", "utf_8"),
        (r"ISO[-_ ]?8859[-_ ]?(1[0-13-6]?|[2-9])", r"iso8859_\1"),
        (r"(?:CP|WINDOWS)[-_ ]?(125[0-8])", r"cp\1"),
        (r"S(?:HIFT)?[-_ ]?JIS", "shift_jis"),
        (r"EUC[-_ ]?(JP|KR)", r"euc_\1"),
        (r"GB[-_ ]?(2312|18030)", r"gb\1"),
        (r"BIG[-_ ]?5", "big5"),
    )
)
"""Names of character sets that are no Defined Terms of DICOM's."""
_GUESSED: Final = ("utf_8", "latin_1")
"""What a text of an unknown character set is: UTF-8 is hardly ever valid by chance, Latin-1 always is."""


@dataclass(frozen=True, slots=True)
class Repertoire:
    """The characters that a Specific Character Set has, and how they are encoded."""

    terms: tuple[str, ...]
    """Its values."""
    is_known: bool
    """Whether they all are Defined Terms."""
    _codecs: tuple[str, ...]
    _extended: tuple[Sets, tuple[CodeElement, ...]] | None
    """For code extensions: the initial sets, and all that are offered. None where there are none."""

    def decode(self, value: bytes, vr: str = "LO") -> str:
        """Return the text of a value, its padding included; what cannot be decoded becomes U+FFFD.

        Parameters
        ----------
        value : bytes
        vr : str
            It tells what delimits.
        """
        if self._extended is not None and iso_2022.ESCAPE in value:
            return iso_2022.decode(value, self._extended[0], _DELIMITERS.get(vr, b"\\"))
        for codec in self._codecs[:-1]:
            try:
                return value.decode(codec)
            except UnicodeDecodeError:
                continue
        return value.decode(self._codecs[-1], "replace")

    def encode(self, text: str, vr: str = "LO") -> bytes | None:
        """Return a text as a value without padding; None where it has a character that is not in the set.

        Parameters
        ----------
        text : str
        vr : str
            It tells what delimits.
        """
        for form in (text, unicodedata.normalize("NFC", text)):
            encoded = self._encode(form, vr)
            if encoded is not None:
                return encoded
        return None

    def _encode(self, text: str, vr: str) -> bytes | None:
        if self._extended is not None:
            return iso_2022.encode(text, *self._extended, _DELIMITERS.get(vr, b"\\"))
        try:
            return text.encode(self._codecs[0])
        except UnicodeEncodeError:
            return None


def _set_of(term: str) -> _Set:
    name = term.upper()
    if not name:
        return _REGISTERED["6"]
    if name in _ALONE:
        return _Set((_ALONE[name],), ())
    numbered = _NUMBERED.fullmatch(name)
    if numbered is not None and numbered[1] in _REGISTERED:
        return _REGISTERED[numbered[1]]
    if numbered is not None and numbered[1] == "192":
        return _Set(("utf_8",), ())
    for pattern, codec in _MISNAMED:
        named = pattern.fullmatch(name)
        if named is not None:
            return _Set((named.expand(codec).lower(),), ())
    return _Set(_GUESSED, ())


def repertoire(value: bytes) -> Repertoire:
    """Return what a value of Specific Character Set (0008,0005) says; an empty one is the default repertoire.

    A set that is used alone stands for all where value 1 is one, and is tried first where another value is.
    """
    return _repertoire(value[:_VALUE_LIMIT_BYTES])


@functools.lru_cache(maxsize=256)
def _repertoire(value: bytes) -> Repertoire:
    terms = tuple(term.strip(" \0") for term in value.decode("latin_1").split("\\"))
    is_known = _KNOWN.issuperset(terms)
    first, *others = map(_set_of, terms)
    alone = [given.codecs for given in (first, *others) if not given.elements and given.codecs != _GUESSED]
    if not first.elements:
        return Repertoire(terms, is_known, first.codecs, None)
    g0 = next((e for e in first.elements if not e.in_g1 and e.width == 1), iso_2022.ASCII)
    g1 = next((e for e in first.elements if e.in_g1), None)
    offered = tuple(dict.fromkeys(element for given in (first, *others) for element in given.elements))
    codecs = (*(codec for codecs in alone for codec in codecs), *first.codecs)
    return Repertoire(terms, is_known, codecs, (Sets(g0, g1), offered))


DEFAULT: Final = repertoire(b"")
"""The default repertoire: ISO 646, where senders are known to mean Latin-1."""
UTF_8: Final = repertoire(b"ISO_IR 192")
