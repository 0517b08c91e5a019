"""Texts in all character sets of DICOM: the examples of PS3.5, pydicom's own encoding, and what is wrong."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, encode_string, python_encoding
from pydicom.charset import decode_bytes as decode_by_pydicom
from pydicom.valuerep import PersonName

from cluster.dicom.character_sets import DEFAULT, UTF_8, Repertoire, repertoire
from cluster.dicom.elements import Element, text

JAPANESE = b"\\ISO 2022 IR 87"
KOREAN = b"\\ISO 2022 IR 149"
YAMADA = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
EXAMPLES = {  # PS3.5 annexes H, I, J and K, and the table of examples that pydicom ships
    "H.3.1": (JAPANESE, YAMADA, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "H.3.2": (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=" + YAMADA.partition(b"=")[2].replace(b"(B", b"(J"),
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "I.2": (
        KOREAN,
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "J.1": (b"ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東="),
    "J.2": (b"GB18030", "Wang^XiaoDong=王^小东=".encode("gb18030"), "Wang^XiaoDong=王^小东="),
    "J.3": (b"GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东"),
    "K.2": (
        b"\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    "single bytes": (b"ISO_IR 144", b"\xbb\xee\xda\xceceM\xd1yp\xd8\xd9", None),
}


def decoded(terms: bytes, value: bytes, vr: str = "PN") -> str:
    return repertoire(terms).decode(value, vr)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_standard_are_read(name: str) -> None:
    terms, value, expected = EXAMPLES[name]
    assert decoded(terms, value) == (value.decode("iso8859_5") if expected is None else expected)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_standard_are_written_byte_for_byte(name: str) -> None:
    terms, value, _ = EXAMPLES[name]
    assert repertoire(terms).encode(decoded(terms, value), "PN") == value


SINGLE_BYTE = [100, 101, 109, 110, 126, 127, 138, 144, 148, 166]
EXTENDED = [
    b"ISO 2022 IR 6\\ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126",
    b"ISO 2022 IR 144\\ISO 2022 IR 100\\ISO 2022 IR 126",
    b"ISO 2022 IR 100\\ISO 2022 IR 149",
    b"ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
    b"\\ISO 2022 IR 87\\ISO 2022 IR 159\\ISO 2022 IR 13",
    b"\\ISO 2022 IR 149\\ISO 2022 IR 87",
    KOREAN,
    JAPANESE,
]
SETS = [
    *(f"ISO_IR {number}".encode() for number in SINGLE_BYTE),
    *(b"", b"ISO_IR 6", b"ISO_IR 13", b"ISO_IR 192", b"GB18030", b"GBK"),
    *EXTENDED,
]
_LETTERS = "AZaz 09.-éüßąőŁğșΩάЖщяאשبشกไ山田太郎やまだﾔﾏﾀﾞ洪吉洞홍길동张小东丂乃亜黑①鷗珤﨑€¥*?"
_TEXTS = st.text(st.sampled_from(_LETTERS) | st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)


def encoded_by_pydicom(text: str, terms: bytes) -> bytes | None:
    """Encode a text as pydicom does; None where it cannot, or cannot read it itself.

    It takes Latin-1 for a part of the default repertoire: among code extensions that cannot be told from
    what a set was named for before.
    """
    if terms.startswith((b"\\", b"ISO 2022 IR 6\\")) and re.search("[\x80-\xff]", text):
        return None
    encodings = convert_encodings(terms.decode().split("\\"))
    try:
        value = encode_string(text, encodings)
        return value if decode_by_pydicom(value, encodings, set()) == text else None
    except (UnicodeError, UserWarning):
        return None


@given(_TEXTS, st.sampled_from(SETS))
@example("山田A太郎", JAPANESE)
@example("é洪é", b"ISO 2022 IR 100\\ISO 2022 IR 149")
def test_what_pydicom_encodes_is_decoded_as_it_was(text: str, terms: bytes) -> None:
    value = encoded_by_pydicom(text, terms)
    if value is not None:
        assert decoded(terms, value, "LO") == text


_COMPONENTS = st.lists(_TEXTS.map(lambda text: re.sub(r"[\\^=]", "", text)), min_size=1, max_size=3)


@given(_COMPONENTS, st.sampled_from(SETS))
@example(["é", "Ж"], b"ISO 2022 IR 144\\ISO 2022 IR 100\\ISO 2022 IR 126")
def test_names_that_pydicom_encodes_are_decoded_as_they_were(components: list[str], terms: bytes) -> None:
    if all(encoded_by_pydicom(component, terms) is not None for component in components):
        name = "^".join(components)
        encodings = convert_encodings(terms.decode().split("\\"))
        assert decoded(terms, PersonName(name).encode(encodings)) == name


@given(_TEXTS, st.sampled_from(SETS), st.sampled_from(["LO", "PN", "UT"]))
def test_what_can_be_encoded_is_decoded_as_it_was(text: str, terms: bytes, vr: str) -> None:
    value = repertoire(terms).encode(text, vr)
    if value is not None:
        assert decoded(terms, value, vr) in (text, unicodedata.normalize("NFC", text))


@given(_TEXTS.filter(lambda text: "\\" not in text), st.sampled_from(SETS))
def test_pydicom_reads_what_is_encoded(text: str, terms: bytes) -> None:
    value = repertoire(terms).encode(text)
    if value is not None:
        read = decode_by_pydicom(value, convert_encodings(terms.decode().split("\\")), set())
        assert read == decoded(terms, value)


@given(_TEXTS, st.sampled_from(SETS))
def test_a_text_can_be_encoded_where_pydicom_can(text: str, terms: bytes) -> None:
    value = encoded_by_pydicom(text, terms)
    composed = re.search(b"\xa4\xd4", value or b"")  # a syllable put together of its parts: eight bytes
    is_default = terms in (b"", b"ISO_IR 6")
    if value is not None and not composed and (text.isascii() or not is_default):
        assert repertoire(terms).encode(text) is not None


def test_every_character_of_every_set_is_the_one_that_pydicom_means() -> None:
    for term, codec in python_encoding.items():
        if term in ("ISO 2022 IR 87", "ISO 2022 IR 159", "ISO 2022 IR 58", "ISO 2022 58"):
            continue
        for byte in range(0x20, 0x100):
            one = bytes((byte,))
            assert decoded(term.encode(), one) == one.decode(codec, "replace"), (term, byte)
    rows = [bytes((row, cell)) for row in range(0x21, 0x7F) for cell in range(0x21, 0x7F)]
    for terms, escape, codec in (
        (JAPANESE, b"\x1b$B", "iso2022_jp"),
        (b"\\ISO 2022 IR 159", b"\x1b$(D", "iso2022_jp_2"),
    ):
        for pair in rows:
            expected = (escape + pair).decode(codec, "ignore")
            if expected:
                assert decoded(terms, escape + pair + b"\x1b(B") == expected


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("PN", b"\x1b-A\xe9^\xe9", "é^щ"),
        ("PN", b"\x1b-A\xe9=\xe9\\\xe9", "é=щ\\щ"),
        ("LO", b"\x1b-A\xe9^\xe9=\xe9\\\xe9", "é^é=é\\щ"),
        ("UT", b"\x1b-A\xe9^\xe9\\\xe9", "é^é\\é"),
        ("UT", b"\x1b-A\xe9\r\n\xe9\x0c\xe9", "é\r\nщ\x0cщ"),
        ("LO", b"\x1b-A\xe9 \xe9", "é é"),
    ],
)
def test_value_1_is_back_at_what_delimits(vr: str, value: bytes, expected: str) -> None:
    assert decoded(b"ISO 2022 IR 144\\ISO 2022 IR 100", value, vr) == expected


CYRILLIC_FIRST = b"ISO 2022 IR 144\\ISO 2022 IR 100"
MIXED = b"\\ISO 2022 IR 149\\ISO 2022 IR 87"


@pytest.mark.parametrize(
    ("terms", "vr", "written", "expected"),
    [
        (CYRILLIC_FIRST, "PN", "éé^щ", b"\x1b-A\xe9\xe9\x1b-L^\xe9"),
        (CYRILLIC_FIRST, "LO", "é^щ\\é", b"\x1b-A\xe9^\x1b-L\xe9\\\x1b-A\xe9\x1b-L"),
        (CYRILLIC_FIRST, "UT", "é\r\nщ", b"\x1b-A\xe9\x1b-L\r\n\xe9"),
        (MIXED, "LO", "길郎길", b"\x1b$)C\xb1\xe6\x1b$B\x4f\x3a\x1b(B\x1b$)C\xb1\xe6"),
        (MIXED, "LO", "郎A길B郎", b"\x1b$BO:\x1b(BA\x1b$)C\xb1\xe6B\x1b$BO:\x1b(B"),
    ],
)
def test_sets_are_named_wherever_a_reader_could_take_another_for_them(
    terms: bytes, vr: str, written: str, expected: bytes
) -> None:
    assert repertoire(terms).encode(written, vr) == expected
    assert decoded(terms, expected, vr) == written


def test_bytes_within_a_character_delimit_nothing() -> None:
    values = [b"\x1b$B%s\x1b(B" % pair for pair in (b"3\\", b"=^", b"!=", b"*?")]
    whole = b"\x1b$B3\\=^!=*?\x1b(B*?"
    assert decoded(JAPANESE, whole) == "".join(decoded(JAPANESE, value) for value in values) + "*?"
    assert decoded(b"GB18030", b"\x81\x5c\\*") == b"\x81\x5c".decode("gb18030") + "\\*"


@pytest.mark.parametrize(
    ("terms", "value", "expected"),
    [
        (b"ISO-IR 100", b"\xe9", "é"),
        (b"iso_ir 144", b"\xe9", "щ"),
        (b"ISO 2022-IR 126", b"\xe8", "θ"),
        (b"ISO2022 IR 144", b"\xe9", "щ"),
        (b"UTF-8", "щ".encode(), "щ"),
        (b"ISO-8859-5", b"\xe9", "щ"),
        (b"windows-1251", b"\xe9", "й"),
        (b"KLINGON", "щ".encode(), "щ"),
        (b"KLINGON", b"\xe9", "é"),
        (b"ISO_IR 999", b"\xe9", "é"),
        (b"\xff\\\0", b"\xe9", "é"),
        (b"\\ISO_IR 192", "щ".encode(), "щ"),
        (b"\\ISO_IR 192", b"\xe9", "é"),
        (b"ISO_IR 192\\ISO 2022 IR 87", "щ".encode(), "щ"),
        (b"ISO_IR 100\\ISO_IR 144", b"\xe9\x1b-L\xe9", "éщ"),
        (b"ISO 2022 IR 149", b"\xb1\xe6", "길"),
        (b"ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
        (b"", b"\x1b$B;3ED\x1b(B", "山田"),
        (b"ISO_IR 100 \\", b"\xe9", "é"),
        (JAPANESE, b"\x1b$@;3\x1b(J\x1b(I1\x1b(B", "山ｱ"),
        (JAPANESE, b"\x1b$ZA\x1b", "\ufffdA\ufffd"),
    ],
)
def test_what_is_misspelt_or_wrong_is_read_as_well_as_can_be(
    terms: bytes, value: bytes, expected: str
) -> None:
    assert decoded(terms, value) == expected


def test_defined_terms_are_known() -> None:
    assert all(repertoire(term.encode()).is_known for term in python_encoding)
    assert repertoire(b" ISO_IR 100\\ISO 2022 IR 87 ").is_known
    for term in (b"ISO-IR 100", b"UTF-8", b"ISO_IR 100\\KLINGON", b"ISO_IR 87"):
        assert not repertoire(term).is_known


@given(st.binary(max_size=40), st.sampled_from(SETS) | st.binary(max_size=20), st.sampled_from(["PN", "LO"]))
def test_whatever_the_bytes_there_is_a_text(value: bytes, terms: bytes, vr: str) -> None:
    found = repertoire(terms)
    assert isinstance(found.decode(value, vr), str)
    assert isinstance(found.encode(found.decode(value, vr), vr), bytes | None)


def test_what_a_set_does_not_have_is_not_encoded() -> None:
    refusing: dict[str, Repertoire] = {
        "é": DEFAULT,
        "щ": repertoire(b"ISO_IR 100"),
        "山": repertoire(KOREAN.replace(b"149", b"100")),
        "\ufffd": repertoire(JAPANESE),
    }
    for lacking, given_set in refusing.items():
        assert given_set.encode(lacking) is None
        assert UTF_8.encode(lacking) == lacking.encode()
    assert repertoire(b"ISO_IR 100").encode("u\u0308") == b"\xfc"


@pytest.mark.parametrize("vr", ["PN", None, "UN"])
def test_the_vr_of_a_text_is_known_where_it_was_implicit(vr: str | None) -> None:
    character_set = Element("CS", b"ISO 2022 IR 144\\ISO 2022 IR 100")
    elements = {0x00080005: character_set, 0x00100010: Element(vr, b"\x1b-A\xe9^\xe9")}
    assert text(elements, 0x00100010) == "é^щ"
