"""What goes out of a data set that people have corrected."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from cluster.dicom import part10
from cluster.nouns import Buffer
from storage_node.services import corrected_copy
from storage_node.services.corrected_copy import corrected
from storage_node.services.rewriting import NotCorrectable
from tests.unit.services.data_sets import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    SEQUENCE_END,
    SYNTAXES,
    UNDEFINED,
    element,
    item_of,
    raw,
    read,
    rewritten,
    undefined_item,
)

FILES = [
    *("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "nested_priv_SQ.dcm"),
    *("JPEG2000.dcm", "image_dfl.dcm", "test-SR.dcm", "MR_small_RLE.dcm", "UN_sequence.dcm"),
]
CORRECTIONS = (
    ("00080050", "A-4711"),
    ("00100010", "Doe^Jane"),
    ("00100020", "P1"),
    ("00100021", ""),
    ("00400275", "no text: passed over"),
    ("junk", "passed over"),
)


async def pieces_of(data_set: bytes, size: int, fed: list[int] | None = None) -> AsyncGenerator[Buffer]:
    for at in range(0, len(data_set), size):
        if fed is not None:
            fed.append(at)
        yield memoryview(data_set)[at : at + size]


async def pass_through(data_set: bytes, syntax: str, size: int = 1 << 20) -> bytes:
    copy = corrected(pieces_of(data_set, size), syntax, CORRECTIONS)
    return b"".join([bytes(piece) async for piece in copy])


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
@pytest.mark.parametrize("name", FILES)
async def test_what_was_corrected_is_and_all_else_stays_as_it_is(name: str, size: int) -> None:
    whole = Path(str(get_testdata_file(name))).read_bytes()
    head = part10.split(whole)
    stored, syntax = whole[head.data_set_offset :], head.transfer_syntax_uid
    out = await pass_through(stored, syntax, size)
    before, after = raw(read(stored, syntax)), raw(read(out, syntax))
    expected = {0x00080050: b"A-4711", 0x00100010: b"Doe^Jane", 0x00100020: b"P1", 0x00100021: None}
    changed = {tag: after[tag] for tag in after if tag not in before or after[tag] != before[tag]}
    assert {tag: after[tag] or None for tag in expected} == expected
    assert changed.keys() <= expected.keys()
    assert list(after) == sorted(after)
    assert {tag for tag in before.keys() - after.keys() if tag & 0xFFFF} == set()


@pytest.mark.parametrize("name", ["image_dfl.dcm", "CT_small.dcm"])
async def test_pydicom_reads_the_copy_as_a_whole_file(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    whole = path.read_bytes()
    offset = part10.split(whole).data_set_offset
    out = await pass_through(whole[offset:], part10.split(whole).transfer_syntax_uid)
    original, copy = dcmread(path), dcmread(BytesIO(whole[:offset] + out))
    assert str(copy.PatientName) == "Doe^Jane"
    assert copy.PixelData == original.PixelData


async def test_a_deflated_copy_has_an_even_length() -> None:
    for padding in range(4):
        stored = element(0x00080060, "CS", b"CT") + element(0x00204000, "LT", b"x" * (10 + 2 * padding))
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        out = await pass_through(deflater.compress(stored) + deflater.flush(), DEFLATED)
        assert len(out) % 2 == 0
        assert read(out, DEFLATED).Modality == "CT"


@pytest.mark.parametrize("size", [100, 1 << 20])
async def test_what_is_deflated_is_inflated_to_its_end_however_well_it_was_deflated(size: int) -> None:
    stored = element(0x00080060, "CS", b"CT") + element(0x7FE00010, "OB", bytes(5 << 20))
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    out = await pass_through(deflater.compress(stored) + deflater.flush(), DEFLATED, size)
    assert read(out, DEFLATED).PixelData == bytes(5 << 20)


async def test_what_is_deflated_and_damaged_is_not_corrected() -> None:
    with pytest.raises(NotCorrectable, match="deflated"):
        await pass_through(b"\xff" * 100, DEFLATED)


async def test_nothing_goes_out_before_all_corrections_are_made() -> None:
    """What cannot be corrected fails while it can still be told."""
    stored = b"".join(
        (
            element(0x00080060, "CS", b"CT"),
            element(0x00081140, "SQ", b"", length=UNDEFINED) + element(0x00080018, "UI", b"1.2"),
            element(0x00100020, "LO", b"P0"),
        )
    )
    with pytest.raises(NotCorrectable, match="item"):
        await anext(corrected(pieces_of(stored, 8), EXPLICIT, CORRECTIONS))
    pixels = element(0x7FE00010, "OW", b"\1\2" * 1000)
    fed: list[int] = []
    copy = corrected(pieces_of(element(0x00100020, "LO", b"P0") + pixels, 32, fed), EXPLICIT, CORRECTIONS)
    out = [bytes(await anext(copy))]
    assert len(fed) == 1, "what is behind the corrections is not held"
    out += [bytes(piece) async for piece in copy]
    assert read(b"".join(out), EXPLICIT).PatientID == "P1"


async def test_what_comes_before_the_corrections_is_not_held_without_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corrected_copy, "_HEADER_LIMIT_BYTES", 1000)
    stored = b"".join(element(0x00091000 + n, "OB", bytes(100)) for n in range(100))
    fed: list[int] = []
    copy = corrected(pieces_of(stored + element(0x00100020, "LO", b"P0"), 100, fed), EXPLICIT, CORRECTIONS)
    out = [bytes(await anext(copy))]
    assert 10 <= len(fed) <= 12
    out += [bytes(piece) async for piece in copy]
    assert read(b"".join(out), EXPLICIT).PatientID == "P1"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_bytes_around_a_correction_stay_whatever_they_are(syntax: str) -> None:
    before = [
        element(0x00080005, "CS", b"ISO_IR 100", syntax),
        element(0x00080008, "CS", b"A\\\\B\\", syntax),
        element(0x00081140, "SQ", item_of(element(0x00100010, "PN", b"IN^ITEM ", syntax), syntax), syntax),
        element(0x00090010, "LO", b"M\xfcller", syntax),
    ]
    after = [
        element(0x00100030, "DA", b"no date", syntax),
        element(0x00101000, "LO", b"odd", syntax),
        element(0x00400275, "SQ", b"", syntax, UNDEFINED),
        undefined_item(element(0x00100010, "PN", b"IN^IT", syntax), syntax),
        element(SEQUENCE_END, "", b"", syntax),
        element(0x7FE00010, "OW", b"\0\1\2\3", syntax),
        b"\0\0\0",
    ]
    stored = b"".join((*before, element(0x00100010, "PN", b"WRONG^N\xc4ME ", syntax), *after))
    right = b"".join((*before, element(0x00100010, "PN", "Größe^A ".encode("latin_1"), syntax), *after))
    for size in (1, 3, 10_000):
        assert rewritten(stored, {0x00100010: "Größe^A"}, syntax, size) == right


def test_an_attribute_that_is_missing_is_put_where_it_belongs() -> None:
    id_, pixels = element(0x00100020, "LO", b"P0"), element(0x7FE00010, "OW", b"\0\1")
    name, series = element(0x00100010, "PN", b"Doe "), element(0x0008103E, "LO", b"A chest ")
    texts = {0x0008103E: "A chest", 0x00100010: "Doe"}
    assert rewritten(id_ + pixels, texts) == series + name + id_ + pixels
    assert rewritten(id_, {0x00185100: "HFS"}) == id_ + element(0x00185100, "CS", b"HFS ")
    assert rewritten(b"", {0x00100010: "Doe"}) == name
    for padding in (b"\0" * 6, b"\0" * 32):
        assert rewritten(series + padding, {0x00100010: "Doe"}) == series + name + padding
    assert rewritten(pixels, {0x00100010: ""}) == element(0x00100010, "PN", b"") + pixels


def test_an_attribute_that_stands_twice_or_out_of_order_is_corrected_once() -> None:
    """Who reads takes the last of two: it must not be what was stored."""
    name = element(0x00100010, "PN", b"WRONG ")
    uid = element(0x0020000D, "UI", b"1.2\0")
    pixels = element(0x7FE00010, "OW", b"\0\1")
    out = rewritten(name + uid + name + pixels, {0x00100010: "Doe^Jane"})
    assert out == element(0x00100010, "PN", b"Doe^Jane") + uid + pixels


def test_lengths_of_groups_that_are_no_longer_true_go() -> None:
    def length(group: int) -> bytes:
        return element(group << 16, "UL", b"\1\0\0\0")

    date, name = element(0x00080020, "DA", b"20240101"), element(0x00100010, "PN", b"WRONG ")
    uid = length(0x20) + element(0x0020000D, "UI", b"1.2\0")
    stored = length(8) + date + length(0x10) + name + uid
    assert rewritten(stored, {0x00100010: "Doe^Jane"}) == (
        length(8) + date + element(0x00100010, "PN", b"Doe^Jane") + uid
    )
    assert rewritten(stored, {0x00080020: "20240102"}) == (
        element(0x00080020, "DA", b"20240102") + length(0x10) + name + uid
    )
    foreign = rewritten(stored, {0x00100010: "Müller"})
    assert b"UL" not in foreign


def test_a_file_meta_group_that_should_not_be_there_and_a_wrong_encoding_are_lived_with() -> None:
    meta = element(0x00020000, "UL", b"\4\0\0\0") + element(0x00020001, "OB", b"\0\1")
    name, right = element(0x00100010, "PN", b"WRONG "), element(0x00100010, "PN", b"Doe^Jane")
    for declared in (EXPLICIT, IMPLICIT):
        assert rewritten(meta + name, {0x00100010: "Doe^Jane"}, declared, 5) == meta + right
    name, right = (element(0x00100010, "PN", text, IMPLICIT) for text in (b"WRONG ", b"Doe^Jane"))
    for declared in (EXPLICIT, IMPLICIT):
        assert rewritten(meta + name, {0x00100010: "Doe^Jane"}, declared, 5) == meta + right


def test_elements_whose_vr_is_wrong_are_passed_as_pydicom_reads_them() -> None:
    odd = element(0x00081030, "ZZ", b"abcd") + element(0x00089999, "", b"no VR ")
    stored = element(0x00080005, "CS", b"ISO_IR 100") + odd + element(0x00100010, "PN", b"WRONG ")
    assert rewritten(stored, {0x00100010: "Doe"}).startswith(element(0x00080005, "CS", b"ISO_IR 100") + odd)
    assert rewritten(stored, {0x00100010: "Doe"}).endswith(element(0x00100010, "PN", b"Doe "))


def _in_latin(syntax: str) -> bytes:
    """A data set in Latin-1, with text at all places where there may be some."""
    greek = element(0x00080005, "CS", b"ISO_IR 126", syntax) + element(0x00081030, "LO", b"\xe1\xe2", syntax)
    item = element(0x00100010, "PN", b"J\xfcrgen", syntax) + element(
        0x00081140, "SQ", item_of(greek, syntax), syntax
    )
    return b"".join(
        (
            element(0x00080005, "CS", b"ISO_IR 100", syntax),
            element(0x00081030, "LO", b"Sch\xe4del ", syntax),
            element(0x00081110, "SQ", item_of(item, syntax) + item_of(b"", syntax), syntax),
            element(0x00081115, "SQ", b"", syntax, UNDEFINED),
            undefined_item(item, syntax),
            item_of(item, syntax),
            element(SEQUENCE_END, "", b"", syntax),
            element(0x00081120, "SQ", b"", syntax),
            element(0x00090010, "LO", b"PRIV\xc9", syntax),
            element(0x00091001, "OB", b"\xfc\xfc", syntax),
            element(0x00100010, "PN", b"WRONG ", syntax),
            element(0x00280010, "US", b"\1\0", syntax),
            element(0x7FE00010, "OW", b"\xe4\xf6", syntax),
        )
    )


def _texts(data_set: Dataset) -> Iterator[tuple[int, str]]:
    for one in data_set:
        if one.VR == "SQ":
            for item in one.value:
                yield from _texts(item)
        elif one.VR in ("PN", "LO"):
            yield int(one.tag), str(one.value)


@pytest.mark.parametrize("size", [1, 11, 10_000])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_text_that_the_data_set_has_no_characters_for_puts_all_of_its_text_into_utf_8(
    syntax: str, size: int
) -> None:
    stored = _in_latin(syntax)
    out = rewritten(stored, {0x00100010: "Янтарь^Анна"}, syntax, size)
    copy, before, after = read(out, syntax), raw(read(stored, syntax)), raw(read(out, syntax))
    nested = [(0x00081030, "αβ"), (0x00100010, "Jürgen")]
    assert list(_texts(copy)) == [
        (0x00081030, "Schädel"),
        *nested * 3,
        (0x00090010, "PRIVÉ"),
        (0x00100010, "Янтарь^Анна"),
    ]
    assert copy.SpecificCharacterSet == "ISO_IR 192"
    assert len(copy[0x00081110].value) == 2
    assert all(after[tag] == before[tag] for tag in (0x00091001, 0x00280010, 0x7FE00010))
    assert len(out) % 2 == 0


def test_a_data_set_without_a_character_set_gets_utf_8_only_if_it_must() -> None:
    name = element(0x00100010, "PN", b"WRONG ")
    study = element(0x00080020, "DA", b"20240101") + element(0x00081030, "LO", b"Sch\xe4del ")
    assert rewritten(study + name, {0x00100010: "Doe "}) == study + element(0x00100010, "PN", b"Doe ")
    out = rewritten(study + name, {0x00100010: "Müller"})
    assert out == b"".join(
        (
            element(0x00080005, "CS", b"ISO_IR 192"),
            element(0x00080020, "DA", b"20240101"),
            element(0x00081030, "LO", "Schädel  ".encode()),
            element(0x00100010, "PN", "Müller ".encode()),
        )
    )


def test_a_text_that_its_own_character_set_has_is_written_in_that() -> None:
    japanese = element(0x00080005, "CS", b"\\ISO 2022 IR 87")
    out = rewritten(japanese + element(0x00100010, "PN", b"WRONG "), {0x00100010: "Yamada^Tarou=山田^太郎"})
    assert out.startswith(japanese)
    assert str(read(out, EXPLICIT).PatientName) == "Yamada^Tarou=山田^太郎"


def test_a_character_set_that_nobody_knows_is_replaced_where_more_than_ascii_is_said() -> None:
    stored = element(0x00080005, "CS", b"MINE") + element(0x00100010, "PN", b"WRONG ")
    assert rewritten(stored, {0x00100010: "Doe^Jane"}).startswith(element(0x00080005, "CS", b"MINE"))
    assert read(rewritten(stored, {0x00100010: "Mü"}), EXPLICIT).SpecificCharacterSet == "ISO_IR 192"


def test_an_item_whose_delimiter_was_left_out_ends_with_its_sequence() -> None:
    name, end = element(0x00100010, "PN", b"J\xfcrgen"), element(SEQUENCE_END, "", b"")
    opened = element(0x00081140, "SQ", b"", length=UNDEFINED) + element(ITEM, "", b"", length=UNDEFINED)
    stored = element(0x00080005, "CS", b"ISO_IR 100") + opened + name + end
    study = element(0x00200010, "SH", b"S1")
    assert rewritten(stored + study, {0x00200010: "S2"}) == stored + element(0x00200010, "SH", b"S2")
    out = rewritten(stored + study, {0x00200010: "Я"})
    assert opened + element(0x00100010, "PN", "Jürgen ".encode()) + end in out


def test_lengths_of_groups_go_from_items_whose_text_becomes_another() -> None:
    item = item_of(element(0x00100000, "UL", b"\1\0\0\0") + element(0x00100010, "PN", b"J\xfc"), EXPLICIT)
    stored = element(0x00081140, "SQ", item)
    assert b"UL" in rewritten(stored, {0x00200010: "S2"})
    assert b"UL" not in rewritten(stored, {0x00200010: "Я"})


def test_sequences_nested_too_deep_are_not_followed() -> None:
    opened = element(0x00081140, "SQ", b"", length=UNDEFINED) + element(ITEM, "", b"", length=UNDEFINED)
    with pytest.raises(NotCorrectable, match="256 deep"):
        rewritten(opened * 300, {0x00100010: "Doe"})


def test_a_text_too_long_to_be_held_is_not_put_into_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_node.services.rewriting._TEXT_LIMIT_BYTES", 10)
    stored = element(0x00080005, "CS", b"ISO_IR 100") + element(0x0040A160, "UT", b"\xe4" * 12)
    with pytest.raises(NotCorrectable, match="12 bytes"):
        rewritten(stored, {0x00080050: "Я"})
    assert rewritten(stored, {0x00080050: "A1"}).endswith(b"\xe4" * 12)
