"""Packed headers come back as they were, and text is decoded."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.dicom.elements import Element, PackedHeaderError, pack, text, unpack

_ELEMENTS = st.dictionaries(
    st.integers(0, 0xFFFFFFFF),
    st.builds(Element, st.sampled_from([None, "LO", "SQ", "UN", "ZZ"]), st.binary(max_size=200)),
)


@given(_ELEMENTS)
def test_what_is_packed_comes_back_in_the_order_of_tags(elements: dict[int, Element]) -> None:
    assert list(unpack(pack(elements)).items()) == sorted(elements.items())
    assert pack(elements) == pack(dict(reversed(elements.items())))


@given(_ELEMENTS, st.sets(st.integers(0, 0xFFFFFFFF)))
def test_only_what_is_wanted_comes_back(elements: dict[int, Element], others: set[int]) -> None:
    wanted = {*others, *sorted(elements)[::2]}
    assert unpack(pack(elements), wanted) == {tag: elements[tag] for tag in elements.keys() & wanted}


@given(
    st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda data: b"\x01" + zlib.compress(data)))
)
def test_garbage_is_a_packed_header_error(data: bytes) -> None:
    try:
        unpacked = unpack(data)
    except PackedHeaderError:
        return
    assert len(pack(unpacked)) > 0


@given(_ELEMENTS.filter(bool), st.data())
def test_a_packed_header_cut_short_is_an_error(elements: dict[int, Element], data: st.DataObject) -> None:
    packed = pack(elements)
    with pytest.raises(PackedHeaderError):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@pytest.mark.parametrize(
    ("character_set", "value", "expected"),
    [
        (None, b"Doe^Jane ", "Doe^Jane"),
        (None, b"M\xfcller", "Müller"),
        (b"ISO_IR 100", b"M\xfcller\0", "Müller"),
        (b"ISO_IR 192 ", "Müller".encode(), "Müller"),
        (b"ISO_IR 192", b"M\xfcller", "M\ufffdller"),
        (b"ISO_IR 144", "Щука".encode("iso8859_5"), "Щука"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (b"\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong=洪^吉洞"),
        (b"KLINGON", b"M\xfcller", "Müller"),
    ],
)
def test_text_is_decoded_by_its_character_set(
    character_set: bytes | None, value: bytes, expected: str
) -> None:
    elements = {0x00100010: Element("PN", value)}
    if character_set is not None:
        elements[0x00080005] = Element("CS", character_set)
    assert text(elements, 0x00100010) == expected
    assert text(elements, 0x00100020) is None


@given(
    st.binary(max_size=60),
    st.sampled_from([b"\\ISO 2022 IR 87\\ISO 2022 IR 149", b"ISO_IR 13", b"GBK", b"?"]),
)
def test_no_bytes_fail_to_decode(value: bytes, character_set: bytes) -> None:
    elements = {0x00080005: Element("CS", character_set), 0x00100010: Element("PN", value)}
    assert isinstance(text(elements, 0x00100010), str)
