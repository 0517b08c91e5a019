"""Text with code extensions: escape sequences switch between character sets (PS3.5 6.1.2.5, ISO/IEC 2022).

An escape sequence puts a set into G0, which is meant by bytes below 80H, or into G1, which is meant by those
above. At a control character or a delimiter the sets of value 1 of Specific Character Set are back.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

ESCAPE: Final = b"\x1b"

_LOW_HALF: Final = bytes(byte & 0x7F for byte in range(256))
_HIGH_HALF: Final = bytes(byte | 0x80 for byte in range(256))
_FIRST_HIGH: Final = 0xA0
"""Graphic characters of the upper half begin here; below are controls (C1) and what shifts to other sets."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeElement:
    """A set of graphic characters, and the escape sequence that puts it into its place; one of each kind."""

    escape: bytes
    codec: str
    """A codec of Python that has the set's characters, in its upper half if they are not ASCII's."""
    in_g1: bool = False
    width: int = 1
    """Bytes of a character."""
    shift: bytes = b""
    """What that codec has before each of the set's characters."""

    @property
    def is_ascii(self) -> bool:
        """Whether its characters are those of ISO 646, as far as delimiters go."""
        return self.codec == "ascii"

    def decode(self, run: bytes) -> str:
        """Return the characters that bytes of the set's half stand for; U+FFFD where there is none."""
        if self.shift:
            pairs = (run[at : at + self.width] for at in range(0, len(run), self.width))
            run = b"".join(self.shift + pair for pair in pairs)
        return (run if self.is_ascii else run.translate(_HIGH_HALF)).decode(self.codec, "replace")

    def encode(self, character: str) -> bytes | None:
        """Return the bytes that stand for a character; None where the set has no such."""
        try:
            encoded = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        if self.is_ascii:
            return encoded
        body = encoded.removeprefix(self.shift)
        if len(body) + len(self.shift) != len(encoded) or len(body) != self.width or min(body) < _FIRST_HIGH:
            return None
        return body if self.in_g1 else body.translate(_LOW_HALF)


class Sets(NamedTuple):
    """The sets in G0 and G1; with none in G1, its bytes are read as Latin-1's."""

    g0: CodeElement
    g1: CodeElement | None


ASCII: Final = CodeElement(b"\x1b(B", "ascii")
ROMAJI: Final = CodeElement(b"\x1b(J", "ascii")
"""JIS X 0201, lower half: its yen sign is the backslash here, as it delimits values (PS3.5 6.1.2.3)."""
KATAKANA: Final = CodeElement(b"\x1b)I", "shift_jis", in_g1=True)
LATIN_1: Final = CodeElement(b"\x1b-A", "latin_1", in_g1=True)
LATIN_2: Final = CodeElement(b"\x1b-B", "iso8859_2", in_g1=True)
LATIN_3: Final = CodeElement(b"\x1b-C", "iso8859_3", in_g1=True)
LATIN_4: Final = CodeElement(b"\x1b-D", "iso8859_4", in_g1=True)
GREEK: Final = CodeElement(b"\x1b-F", "iso8859_7", in_g1=True)
ARABIC: Final = CodeElement(b"\x1b-G", "iso8859_6", in_g1=True)
HEBREW: Final = CodeElement(b"\x1b-H", "iso8859_8", in_g1=True)
CYRILLIC: Final = CodeElement(b"\x1b-L", "iso8859_5", in_g1=True)
LATIN_5: Final = CodeElement(b"\x1b-M", "iso8859_9", in_g1=True)
THAI: Final = CodeElement(b"\x1b-T", "tis_620", in_g1=True)
LATIN_9: Final = CodeElement(b"\x1b-b", "iso8859_15", in_g1=True)
JIS_X_0208: Final = CodeElement(b"\x1b$B", "euc_jp", width=2)
JIS_X_0212: Final = CodeElement(b"\x1b$(D", "euc_jp", width=2, shift=b"\x8f")
KS_X_1001: Final = CodeElement(b"\x1b$)C", "euc_kr", in_g1=True, width=2)
GB_2312: Final = CodeElement(b"\x1b$)A", "gb2312", in_g1=True, width=2)

_ELEMENTS: Final = {
    **{
        element.escape: element
        for element in (
            *(ASCII, ROMAJI, KATAKANA, JIS_X_0208, JIS_X_0212, KS_X_1001, GB_2312),
            *(LATIN_1, LATIN_2, LATIN_3, LATIN_4, LATIN_5, LATIN_9),
            *(GREEK, ARABIC, HEBREW, CYRILLIC, THAI),
        )
    },
    # No Defined Terms of DICOM's, and written all the same: JIS of 1978, and katakana in seven bits.
    b"\x1b$@": CodeElement(b"\x1b$@", "euc_jp", width=2),
    b"\x1b(I": CodeElement(b"\x1b(I", "shift_jis"),
}

_RUNS: Final = re.compile(
    rb"\x1b[ -/]+[0-~]"  # an escape sequence
    rb"|[\x80-\xff]+"  # of the set in G1
    rb"|[!-~]+"  # of the set in G0
    rb"|[\x00-\x1a\x1c-\x20\x7f]+|\x1b",  # of none
    re.DOTALL,
)


def decode(value: bytes, initial: Sets, delimiters: bytes) -> str:
    """Return the text that bytes with escape sequences stand for.

    Parameters
    ----------
    value : bytes
    initial : Sets
        Those of value 1 of Specific Character Set.
    delimiters : bytes
        Each of these brings them back, and so do control characters (PS3.5 6.1.2.5.3).
    """
    g0, g1 = initial
    decoded: list[str] = []
    for run in _RUNS.findall(value):
        first = run[0]
        if first == ESCAPE[0]:
            element = _ELEMENTS.get(run)
            if element is None:
                decoded.append("\N{REPLACEMENT CHARACTER}")
            elif element.in_g1:
                g1 = element
            else:
                g0 = element
        elif first >= 0x80:
            decoded.append((g1 or LATIN_1).decode(run))
        elif ord(" ") < first < 0x7F and not g0.is_ascii:
            decoded.append(g0.decode(run))
        else:
            decoded.append(run.decode("ascii"))
            if any(byte < ord(" ") or byte in delimiters for byte in run):
                g0, g1 = initial
    return "".join(decoded)


def encode(text: str, initial: Sets, offered: tuple[CodeElement, ...], delimiters: bytes) -> bytes | None:
    """Return a text as bytes with escape sequences; None where a character is in no set.

    Parameters
    ----------
    text : str
    initial : Sets
        Those of value 1 of Specific Character Set.
    offered : tuple of CodeElement
        Those of all its values, the preferred ones first.
    delimiters : bytes
        Before each of these the initial sets are brought back, and before control characters.
    """
    writer = _Writer(initial, offered)
    for character in text:
        if character < " " or (character.isascii() and ord(character) in delimiters):
            writer.reset()
            writer.written += character.encode("ascii")
        elif not writer.write(character):
            return None
    writer.reset()
    return bytes(writer.written)


class _Writer:
    """What has been written, and which sets a reader takes the next bytes for.

    Readers are known that remember one escape sequence, not one for G0 and one for G1: after one for G0, a
    set in G1 is named again.
    """

    def __init__(self, initial: Sets, offered: tuple[CodeElement, ...]) -> None:
        self.written = bytearray()
        # What a set of several bytes is, is said at each place, though value 1 should say it too.
        self._initial = Sets(initial.g0, initial.g1 if initial.g1 and initial.g1.width == 1 else None)
        self._offered = (initial.g0, *offered)
        self._g0, self._g1 = self._initial
        self._g1_changed = False

    def write(self, character: str) -> bool:
        """Write a character by one of the sets; return False where it is in none."""
        for element in (self._g0, self._g1, *self._offered):
            if element is None:
                continue
            encoded = _encoded(element, character)
            if encoded is not None:
                self._designate(element)
                self.written += encoded
                return True
        return False

    def reset(self) -> None:
        """Bring the initial sets back."""
        if self._g0 is not self._initial.g0:
            self.written += self._initial.g0.escape
        if self._g1_changed and self._initial.g1 is not None:
            self.written += self._initial.g1.escape
        self._g0, self._g1 = self._initial
        self._g1_changed = False

    def _designate(self, element: CodeElement) -> None:
        if element in (self._g0, self._g1):
            return
        if not element.in_g1:
            self._g0, self._g1 = element, None
        else:
            if self._g0 is not self._initial.g0:
                self.written += self._initial.g0.escape
                self._g0 = self._initial.g0
            self._g1 = element
            self._g1_changed = element is not self._initial.g1
        self.written += element.escape


@functools.lru_cache(maxsize=4096)
def _encoded(element: CodeElement, character: str) -> bytes | None:
    return element.encode(character)
