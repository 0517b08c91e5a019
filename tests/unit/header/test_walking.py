"""The walker follows what others send, in pieces of any size."""

from __future__ import annotations

import gc
import struct
import weakref
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.dicom import header
from cluster.dicom.header import DataSetCutShort, HeaderError, HeaderReader
from tests.unit.header.encoding import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IDENTITY,
    IMPLICIT,
    JPEG,
    UNDEFINED,
    data_set,
    element,
    fragments,
    identity,
    item,
    pixels,
    sequence,
)

NATIVE = [IMPLICIT, EXPLICIT, BIG_ENDIAN]


def read(data: bytes, syntax: str = EXPLICIT, *cuts: int) -> HeaderReader:
    reader = HeaderReader(syntax)
    for start, stop in pairwise([0, *sorted(cuts), len(data)]):
        reader.feed(data[start:stop])
    reader.close()
    return reader


def who(reader: HeaderReader) -> tuple[str | None, ...]:
    return (
        reader.sop_class_uid,
        reader.sop_instance_uid,
        reader.study_instance_uid,
        reader.series_instance_uid,
    )


@pytest.mark.parametrize("syntax", [*NATIVE, JPEG, "1.2.3.4.5"])
def test_identity_is_read_in_every_transfer_syntax(syntax: str) -> None:
    encoded = syntax if syntax in NATIVE else EXPLICIT
    reader = read(data_set(after=pixels(100, syntax=encoded), syntax=encoded), syntax)
    assert who(reader) == IDENTITY
    assert reader.complete
    assert reader.flags == ()


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def test_what_is_damaged_behind_the_header_of_a_deflated_data_set_is_flagged() -> None:
    compressor = zlib.compressobj(wbits=-15)
    reader = HeaderReader(DEFLATED)
    reader.feed(compressor.compress(data_set(after=pixels(1000)[:100])))
    reader.feed(compressor.flush(zlib.Z_FULL_FLUSH))
    assert who(reader) == IDENTITY
    assert reader.complete
    for _ in range(2):
        reader.feed(b"\xff" * 100)
    reader.close()
    assert (reader.missing_bytes, reader.flags) == (0, ("unreadable_structure",))


def test_a_deflated_data_set_is_followed_to_its_end_as_far_as_the_limit_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deflated = deflate(data_set(after=pixels(2_000_000)))
    assert read(deflated, DEFLATED).missing_bytes == 0
    assert read(deflate(data_set(after=pixels(2_000_000)[:-9])), DEFLATED).missing_bytes == 9
    with pytest.raises(DataSetCutShort):
        read(deflated[:-20], DEFLATED)
    monkeypatch.setattr(header, "_INFLATED_LIMIT_BYTES", 1_000_000)
    reader = read(deflated[:-20], DEFLATED)
    assert (who(reader), reader.missing_bytes, reader.flags) == (IDENTITY, 0, ())


def test_nothing_of_a_large_value_is_held() -> None:
    large = element(0x00091010, "OB", bytes(50_000_000))
    reader = HeaderReader(EXPLICIT)
    data = data_set(large)
    for start in range(0, len(data), 65_521):
        reader.feed(data[start : start + 65_521])
        assert reader._walker.held_bytes < 2048
    reader.close()
    assert who(reader) == IDENTITY
    assert 0x00091010 not in reader.elements


@pytest.mark.parametrize("size", [1, 3, 7, 64])
@pytest.mark.parametrize("syntax", NATIVE)
def test_pieces_of_any_size_give_the_same(syntax: str, size: int) -> None:
    nested = item(element(0x00081155, "UI", b"1.2\0", syntax=syntax), defined=False, syntax=syntax)
    data = data_set(
        sequence(0x00081140, [nested, item(b"", syntax=syntax)], syntax=syntax)
        + element(0x00091001, "OB", bytes(3000), syntax=syntax),
        pixels(50, syntax=syntax),
        syntax=syntax,
    )
    whole, pieces = read(data, syntax), read(data, syntax, *range(size, len(data), size))
    assert pieces.elements == whole.elements
    assert (who(pieces), pieces.flags, pieces.complete) == (who(whole), whole.flags, True)
    assert pieces.pixel_data_end_bytes == whole.pixel_data_end_bytes == len(data)


@pytest.mark.parametrize("vr", ["SQ", "UN"])
@pytest.mark.parametrize("defined", [True, False])
def test_nested_sequences_of_undefined_length_are_walked(vr: str, defined: bool) -> None:
    inside = IMPLICIT if vr == "UN" else EXPLICIT
    deep = sequence(0x00409999, [item(element(0x0020000D, "UI", b"9.9\0", syntax=inside))], syntax=inside)
    outer = sequence(0x00091010, [item(deep, defined=defined), item(deep, defined=defined)], vr=vr)
    reader = read(data_set(outer))
    assert who(reader) == IDENTITY, "what is nested is not taken for the instance's own"
    assert reader.elements[0x00091010].vr == vr
    assert reader.elements[0x00091010].value == outer[12:-8]


def test_lengths_within_an_unknown_sequence_are_never_taken_for_a_vr() -> None:
    inner = element(0x00091020, "OB", bytes(0x4141), syntax=IMPLICIT)
    assert inner[4:6] == b"AA"
    reader = read(data_set(sequence(0x00091010, [item(inner, defined=False)], vr="UN")))
    assert (who(reader), reader.flags) == (IDENTITY, ())


def test_private_implicit_sequences_are_walked() -> None:
    inner = element(0x00091020, "LO", b"x" * 9, syntax=IMPLICIT)
    nested = sequence(0x00091010, [item(inner, defined=False)] * 3, syntax=IMPLICIT)
    assert who(read(data_set(nested, syntax=IMPLICIT), IMPLICIT)) == IDENTITY


def test_encapsulated_data_within_a_sequence_is_walked() -> None:
    icon = sequence(0x00880200, [item(fragments(4000, 10), defined=False)])
    reader = read(data_set(icon, fragments(10)))
    assert who(reader) == IDENTITY


@pytest.mark.parametrize(
    ("between", "flag"),
    [
        (element(0x00080000, "UL", struct.pack("<I", 4)), "group_length"),
        (element(0x00081030, "LO", b"odd"), "odd_length"),
        (element(0x00091010, "ZZ", b"ab"), "wrong_vr"),
        (struct.pack("<HHI", 9, 0x1010, 2) + b"ab", "wrong_vr"),
        (element(0x00080005, "CS", b"KLINGON "), "unknown_character_set"),
        (element(0x00100010, "LO", b"Doe^Jane"), "wrong_vr"),
    ],
)
def test_what_is_odd_is_kept_and_flagged(between: bytes, flag: str) -> None:
    reader = read(data_set(between))
    assert who(reader) == IDENTITY
    assert reader.flags == (flag,)


@pytest.mark.parametrize("uid", [b"1.02", b"1." + b"2" * 70, b"1.2.x", b".1", b"1..2", b"../etc"])
def test_an_invalid_uid_is_read_and_flagged(uid: bytes) -> None:
    reader = read(data_set() + element(0x00080018, "UI", uid))
    assert reader.sop_instance_uid == uid.decode()
    assert "invalid_uid" in reader.flags


def test_a_missing_or_empty_patient_id_is_flagged() -> None:
    assert read(data_set() + element(0x00100020, "LO", b"  ")).flags == ("no_patient_id",)
    first, _ = identity()
    assert "no_patient_id" in read(first).flags


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("meta", [IMPLICIT, EXPLICIT])
def test_a_stray_group_2_is_passed_over(syntax: str, meta: str) -> None:
    stray = element(0x00020001, "OB", b"\0\1", syntax=meta) + element(0x00020010, "UI", b"1.2\0", syntax=meta)
    reader = read(stray + data_set(syntax=syntax), syntax)
    assert (who(reader), reader.flags) == (IDENTITY, ("group_2",))


@pytest.mark.parametrize(("said", "sent"), [(IMPLICIT, EXPLICIT), (EXPLICIT, IMPLICIT)])
def test_explicit_and_implicit_are_told_apart(said: str, sent: str) -> None:
    reader = read(data_set(syntax=sent), said)
    assert (who(reader), reader.flags) == (IDENTITY, ("wrong_transfer_syntax",))


def test_padding_of_uids_is_taken_off() -> None:
    reader = read(element(0x00080018, "UI", b" 1.2 \0\0"))
    assert reader.sop_instance_uid == "1.2"
    assert read(element(0x00080018, "UI", b"\0\0")).sop_instance_uid is None


def test_private_elements_do_not_crowd_out_the_others() -> None:
    private = b"".join(element(0x00090000 | n, "UN", bytes(1000)) for n in range(0x1000, 0x1100))
    reader = read(data_set(private))
    assert who(reader) == IDENTITY
    assert 0x00100020 in reader.elements
    assert sum(len(kept.value) for kept in reader.elements.values()) < 64 * 1024
    assert reader.flags == ("long_header",)


def test_nothing_crowds_out_the_identity() -> None:
    others = b"".join(element(0x00100000 | n, "UN", bytes(1000)) for n in range(0x3000, 0x3100))
    reader = read(data_set(others))
    assert who(reader) == IDENTITY
    assert 0x00100020 not in reader.elements


def test_big_endian_values_are_kept_in_little_endian_order() -> None:
    between = element(0x00280010, "US", b"\x02\x00", syntax=BIG_ENDIAN)
    reader = read(data_set(between, syntax=BIG_ENDIAN), BIG_ENDIAN)
    assert reader.elements[0x00280010] == ("US", b"\x00\x02")


def test_the_length_of_native_pixel_data_says_where_the_data_set_ends() -> None:
    before = data_set()
    reader = HeaderReader(EXPLICIT)
    reader.feed(before + element(0x7FE00010, "OW", b"1234", length=0xFFFFFFFE))
    assert reader.pixel_data_end_bytes == len(before) + 12 + 0xFFFFFFFE
    assert reader.missing_bytes == 0xFFFFFFFE - 4


@pytest.mark.parametrize("pixel_data", [pixels(100), fragments(60, 30)])
def test_pixel_data_cut_short_is_told(pixel_data: bytes) -> None:
    whole = data_set(after=pixel_data)
    assert read(whole).missing_bytes == 0
    assert read(whole[:-20]).missing_bytes > 0


@given(st.integers(0, 40), st.binary(max_size=40))
def test_what_follows_the_pixel_data_is_no_fault(size: int, trailer: bytes) -> None:
    reader = read(data_set(after=pixels(size) + trailer))
    assert (reader.missing_bytes, reader.flags) == (0, ())


@pytest.mark.parametrize("syntax", NATIVE)
def test_padding_behind_the_pixel_data_is_part_of_the_data_set(syntax: str) -> None:
    padding = element(0xFFFCFFFC, "OB", bytes(50), syntax=syntax)
    before = data_set(after=pixels(6, syntax=syntax), syntax=syntax)
    whole = before + padding
    assert read(whole, syntax).missing_bytes == 0
    for length in range(len(before) + 4, len(whole)):
        for cuts in ((), range(1, length)):
            assert read(whole[:length], syntax, *cuts).missing_bytes > 0, length


def test_fragments_without_their_delimiter_are_flagged_not_missed() -> None:
    reader = read(data_set(after=fragments(60, 30))[:-8])
    assert (reader.missing_bytes, reader.flags) == (0, ("no_sequence_delimiter",))


def test_zeros_at_the_end_are_padding() -> None:
    reader = read(data_set() + bytes(3))
    assert (who(reader), reader.flags) == (IDENTITY, ("trailing_padding",))


def test_a_data_set_that_ends_within_an_element_is_cut_short() -> None:
    data = data_set(sequence(0x00081140, [item(b"", defined=False)]))
    ends = {len(read_elements) for read_elements in (b"".join(parts) for parts in _prefixes(data))}
    for length in range(1, len(data)):
        reader = HeaderReader(EXPLICIT)
        reader.feed(data[:length])
        if length in ends:
            reader.close()
        else:
            with pytest.raises(DataSetCutShort):
                reader.close()


def _prefixes(data: bytes) -> list[list[bytes]]:
    """Return the data set's elements up to each of them."""
    first, last = identity()
    between = data[len(first) : len(data) - len(last)]
    sizes = [34, 18, len(between), 10, 14, 16]
    assert sum(sizes) == len(data)
    cuts = [0]
    for size in sizes:
        cuts.append(cuts[-1] + size)
    elements = [data[start:stop] for start, stop in pairwise(cuts)]
    return [elements[:count] for count in range(1, len(elements) + 1)]


def test_a_deflated_data_set_cut_short_is_told() -> None:
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(data_set()) + compressor.flush()
    reader = HeaderReader(DEFLATED)
    reader.feed(deflated[:-20])
    with pytest.raises(DataSetCutShort):
        reader.close()


def test_structure_that_cannot_be_followed_is_refused_only_without_identity() -> None:
    broken = element(0x00409999, "SQ", b"", length=UNDEFINED) + element(0x00100010, "PN", b"no item!")
    with pytest.raises(HeaderError):
        read(data_set(broken))
    reader = read(data_set() + broken)
    assert (who(reader), reader.flags) == (IDENTITY, ("unreadable_structure",))


def test_depth_has_a_limit() -> None:
    opened = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + element(0x00409999, "SQ", b"", length=UNDEFINED)
    reader = HeaderReader(EXPLICIT)
    with pytest.raises(HeaderError, match="deep"):
        reader.feed(element(0x00409999, "SQ", b"", length=UNDEFINED) + opened * 1000)


def test_a_deflated_data_set_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "_INFLATED_LIMIT_BYTES", 1_000_000)
    compressor = zlib.compressobj(wbits=-15)
    endless = element(0x00091010, "OB", bytes(2_000_000))
    with pytest.raises(HeaderError, match="no end"):
        HeaderReader(DEFLATED).feed(compressor.compress(endless) + compressor.flush())


def test_damaged_deflated_data_is_refused() -> None:
    with pytest.raises(HeaderError, match="deflated"):
        HeaderReader(DEFLATED).feed(b"\xff" * 100)


@given(
    data=st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from(
                [
                    *identity(),
                    element(0x00409999, "SQ", b"", length=UNDEFINED),
                    element(0x00091010, "UN", b"", length=UNDEFINED),
                    item(b""),
                    struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED),
                    struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
                    struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
                    element(0x7FE00010, "OB", b"", length=UNDEFINED),
                    b"\0",
                    b"\x02\x00",
                ]
            ),
            max_size=20,
        ).map(b"".join),
    ),
    syntax=st.sampled_from([*NATIVE, DEFLATED]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_garbage_raises_nothing_else_and_pieces_change_nothing(
    data: bytes, syntax: str, cuts: list[int]
) -> None:
    outcomes: list[tuple[object, object]] = []
    for at in ([], [cut for cut in cuts if cut < len(data)], range(1, len(data))):
        try:
            reader = read(data, syntax, *at)
        except HeaderError as error:
            outcomes.append((type(error), ()))
        else:
            outcomes.append((who(reader), (reader.flags, reader.missing_bytes, dict(reader.elements))))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_what_was_read_is_freed_at_once_without_the_collector() -> None:
    gc.disable()
    try:
        reader = read(data_set())
        freed = weakref.ref(reader)
        del reader
        assert freed() is None
    finally:
        gc.enable()
