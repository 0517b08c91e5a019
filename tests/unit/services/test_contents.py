"""What a version is to the one before it, told by what both hold."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from cluster.nouns import Instance, Version
from storage_node.grid.choices import Relation
from storage_node.services.contents import Content, LargeContent, content_of, relation
from storage_node.services.parsed import NotReadable, parse

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
RLE, JPEG, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
LIMIT_BYTES: Final = 1_000_000
WORDS: Final = tuple(range(0, 6000, 500))


def image(words: tuple[int, ...] = WORDS, *, order: str = "<", **attributes: object) -> Dataset:
    """Return an image of 3 rows of 4 pixels with 16 bits."""
    data_set = Dataset()
    data_set.PatientName = "Doe^Jane"
    data_set.Rows, data_set.Columns, data_set.SamplesPerPixel = 3, 4, 1
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 16, 16, 15
    data_set.PixelRepresentation, data_set.PhotometricInterpretation = 0, "MONOCHROME2"
    code = Dataset()
    code.CodeValue = "1"
    data_set.AnatomicRegionSequence = [code]
    data_set.PixelData = struct.pack(f"{order}{len(words)}H", *words)
    data_set["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


def compressed(content: bytes, **attributes: object) -> Dataset:
    data_set = image(**attributes)  # type: ignore[arg-type]
    data_set.PixelData = encapsulate([content])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return data_set


def rle(*segments: bytes) -> bytes:
    """Return a frame of literal runs only (PS3.5 G)."""
    coded = [bytes((len(segment) - 1,)) + segment for segment in segments]
    coded = [segment + b"\x80" * (len(segment) % 2) for segment in coded]
    offsets, at = [], 64
    for segment in coded:
        offsets.append(at)
        at += len(segment)
    header = struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments)))
    return header + b"".join(coded)


def between(first: Dataset, second: Dataset, *, of: tuple[str, str] = (EXPLICIT, EXPLICIT)) -> Relation:
    return relation(*(content_of(read(*one), one[1]) for one in ((first, of[0]), (second, of[1]))))


def read(data_set: Dataset, syntax: str) -> Dataset:
    return parsed(written(data_set, syntax), syntax)


def written(data_set: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax != BIG_ENDIAN, syntax == IMPLICIT
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def parsed(encoded: bytes, syntax: str, limit_bytes: int = LIMIT_BYTES) -> Dataset:
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflater.compress(encoded) + deflater.flush()
    version = Version(Instance("1", "2", "3"), "d", "k", len(encoded), 4, "1.2", syntax)
    return parse(b"meta" + encoded, version, limit_bytes)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_the_same_content_in_another_native_encoding_is_an_alternate(syntax: str) -> None:
    assert between(image(), image(), of=(EXPLICIT, syntax)) is Relation.ALTERNATE
    assert between(image(), image((0, *WORDS[1:-1], 1)), of=(EXPLICIT, syntax)) is Relation.CONFLICT


def test_big_endian_pixels_are_the_same_whichever_way_round() -> None:
    turned = image(order=">")
    assert between(image(), turned, of=(EXPLICIT, BIG_ENDIAN)).replaces
    assert between(turned, image(), of=(BIG_ENDIAN, EXPLICIT)).replaces
    assert (
        between(image(), image((*WORDS[:-1], 9), order=">"), of=(EXPLICIT, BIG_ENDIAN)) is Relation.CONFLICT
    )


def test_another_header_over_the_same_pixels_is_a_correction() -> None:
    code = Dataset()
    code.CodeValue = "2"
    for other in (image(PatientName="Doe^John"), image(AnatomicRegionSequence=[code])):
        assert between(image(), other) is Relation.CORRECTION


def test_other_pixels_are_a_conflict_whatever_the_header() -> None:
    other = (*WORDS[:-1], 1)
    assert between(image(), image(other)) is Relation.CONFLICT
    assert between(image(), image(other, PatientName="Doe^John")) is Relation.CONFLICT


def test_the_same_bytes_in_another_shape_are_a_conflict() -> None:
    assert between(image(), image(Rows=4, Columns=3)) is Relation.CONFLICT


def test_padding_behind_the_pixels_is_none_of_them() -> None:
    assert between(image(), image((*WORDS, 0))) is Relation.ALTERNATE


def test_what_is_compressed_without_loss_is_compared_by_what_it_decodes_to() -> None:
    high, low = bytes(word >> 8 for word in WORDS), bytes(word & 255 for word in WORDS)
    assert between(image(), compressed(rle(high, low)), of=(EXPLICIT, RLE)) is Relation.ALTERNATE
    assert between(image(), compressed(rle(low, high)), of=(EXPLICIT, RLE)) is Relation.CONFLICT
    assert between(image(), compressed(b"no RLE"), of=(EXPLICIT, RLE)) is Relation.UNCOMPARED


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_are_compared_however_their_planes_lie(planar: int) -> None:
    planes = [bytes(range(start, start + 12)) for start in (0, 40, 80)]
    colour = {"SamplesPerPixel": 3, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    colour |= {"PhotometricInterpretation": "RGB"}  # type: ignore[dict-item]
    by_pixel = bytes(value for pixel in zip(*planes, strict=True) for value in pixel)
    native = image(**colour, PlanarConfiguration=planar)  # type: ignore[arg-type]
    native.PixelData = b"".join(planes) if planar else by_pixel
    coded = compressed(rle(*planes), **colour, PlanarConfiguration=0)
    assert between(native, coded, of=(EXPLICIT, RLE)) is Relation.ALTERNATE
    native.PixelData = native.PixelData[::-1]
    assert between(native, coded, of=(EXPLICIT, RLE)) is Relation.CONFLICT


def test_the_same_compressed_pixels_are_the_same_however_they_are_parted() -> None:
    first, second = compressed(b"0123456789"), compressed(b"0123456789")
    second.PixelData = encapsulate([b"0123456789"], fragments_per_frame=2, has_bot=False)
    second.PatientName = "Doe^John"
    assert between(first, second, of=(JPEG, JPEG)) is Relation.CORRECTION


def test_what_nobody_can_decode_cannot_be_compared() -> None:
    assert between(image(), compressed(b"0123456789"), of=(EXPLICIT, JPEG_LS)) is Relation.UNCOMPARED


def test_lossy_after_lossless_is_told_from_a_conflict() -> None:
    lossy = image((*WORDS[:-1], 1), LossyImageCompression="01")
    assert between(image(), compressed(b"0123456789"), of=(EXPLICIT, JPEG)) is Relation.LOSSY
    assert between(image(), lossy) is Relation.LOSSY
    assert between(lossy, image()) is Relation.CONFLICT
    assert between(lossy, image((*WORDS[:-1], 2), LossyImageCompression="01")) is Relation.CONFLICT
    smaller = image(WORDS[:6], Columns=2, LossyImageCompression="01")
    assert between(image(), smaller) is Relation.CONFLICT


def test_what_has_no_pixels_is_corrected() -> None:
    first, second = Dataset(), Dataset()
    first.PatientName, second.PatientName = "A", "B"
    assert between(first, second) is Relation.CORRECTION
    assert between(first, first, of=(EXPLICIT, BIG_ENDIAN)).replaces
    assert between(first, image()) is Relation.CONFLICT


def test_another_document_or_waveform_is_a_conflict() -> None:
    for keyword in ("EncapsulatedDocument", "FloatPixelData"):
        first, second = Dataset(), Dataset()
        setattr(first, keyword, b"12345678")
        setattr(second, keyword, b"12345679")
        assert between(first, first) is Relation.ALTERNATE
        assert between(first, second) is Relation.CONFLICT
    recorded, others = Dataset(), Dataset()
    for data_set, samples in ((recorded, b"\1\0\2\0"), (others, b"\1\0\3\0")):
        item = Dataset()
        item.WaveformBitsAllocated = 16
        item.add_new(0x54001010, "OW", samples)
        data_set.WaveformSequence = [item]
    assert between(recorded, recorded) is Relation.ALTERNATE
    assert between(recorded, others) is Relation.CONFLICT


def test_what_inflates_beyond_all_measure_is_not_read() -> None:
    with pytest.raises(NotReadable, match="more than 1000 bytes"):
        parsed(bytes(100_000), DEFLATED, 1000)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_large_is_told_apart_in_pieces_of_any_size(syntax: str, size: int) -> None:
    first, same = large(image(), syntax, size), large(image(), syntax, 50)
    assert relation(first, same) is Relation.ALTERNATE
    assert relation(first, large(image(PatientName="B"), syntax, size)) is Relation.CORRECTION
    assert relation(first, large(image((*WORDS[:-1], 1)), syntax, size)) is Relation.UNCOMPARED
    assert relation(first, large(image(Rows=4, Columns=3), syntax, size)) is Relation.CONFLICT
    lossy = image((*WORDS[:-1], 1), LossyImageCompression="01")
    assert relation(first, large(lossy, syntax, size)) is Relation.LOSSY


def test_what_is_large_and_has_no_pixels_in_sight_is_not_compared() -> None:
    with pytest.raises(NotReadable, match="no pixel data"):
        large(Dataset(), EXPLICIT, 10)
    with pytest.raises(NotReadable, match="no pixel data comes within 10 bytes"):
        large(image(), EXPLICIT, 7, limit_bytes=10)
    with pytest.raises(NotReadable, match="it is deflated"):
        large(image(), DEFLATED, 7)


def large(data_set: Dataset, syntax: str, size: int, limit_bytes: int = LIMIT_BYTES) -> Content:
    file = b"meta" + written(data_set, syntax)
    version = Version(Instance("1", "2", "3"), "d", "k", len(file), 4, "1.2", syntax)
    content = LargeContent(version, limit_bytes)
    for at in range(0, len(file), size):
        content.feed(file[at : at + size])
    return content.close()
