"""What a version holds, in so few words that two can be compared: its pixels, and all the rest."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE, EXPLICIT_VR_BE
from storage_node.grid.choices import Relation
from storage_node.services.conversion import NATIVE
from storage_node.services.parsed import NotReadable, bytes_of, items_of, parse_until, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

    from cluster.nouns import Version

_DECODED_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Largest pixel data that is decompressed to be compared."""
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED = 0x00280010, 0x00280011, 0x00280100, 0x00280101
_PIXEL_REPRESENTATION: Final = 0x00280103
_LOSSY_IMAGE_COMPRESSION: Final = 0x00282110
_WAVEFORM_SEQUENCE, _WAVEFORM_DATA = 0x54000100, 0x54001010
_PIXEL_DATA: Final = 0x7FE00010
_OTHER_BULK: Final = {0x7FE00008: 4, 0x7FE00009: 8, 0x56000020: 4, 0x00420011: 1}
"""Float and Double Float Pixel Data, Spectroscopy Data, Encapsulated Document: bytes of one word of each."""
_BULK: Final = frozenset((_PIXEL_DATA, *_OTHER_BULK))
_OF_ENCODING: Final = frozenset((_PHOTOMETRIC, _PLANAR, *range(0x00282110, 0x00282115), 0xFFFCFFFC))
"""What may change with the transfer syntax, and padding."""
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_COMPRESSED_ROOT: Final = "1.2.840.10008.1.2.4."
_LOSSY: Final = frozenset(
    f"{_COMPRESSED_ROOT}{number}" for number in (*range(50, 57), *range(59, 65), 81, *range(100, 109))
)
"""Transfer syntaxes that are always lossy (PS3.5 annex A): JPEG, JPEG-LS near-lossless, MPEG, HEVC."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a version holds."""

    shape: tuple[int, ...]
    """Rows, columns, samples, bits of each, and frames of its pixels; empty where it has none."""
    encoded: str
    """Digest of its pixels, or what it has instead of pixels, as they are encoded."""
    pixels: str | None
    """Digest of them once decoded, little endian, plane by plane; None if they cannot be decoded."""
    header: str
    """Digest of all else."""
    is_lossy: bool


def relation(first: Content, second: Content) -> Relation:
    """Return what a version is to the one before it."""
    if first.shape != second.shape:
        return Relation.CONFLICT
    if first.encoded == second.encoded or (first.pixels is not None and first.pixels == second.pixels):
        return Relation.ALTERNATE if first.header == second.header else Relation.CORRECTION
    if second.is_lossy and not first.is_lossy:
        return Relation.LOSSY
    return Relation.UNCOMPARED if None in (first.pixels, second.pixels) else Relation.CONFLICT


def content_of(data_set: Dataset, transfer_syntax_uid: str) -> Content:
    """Return what a version holds.

    Parameters
    ----------
    data_set : Dataset
        As pydicom has read it; no element may have been looked at.
    transfer_syntax_uid : str

    Raises
    ------
    Exception
        Whatever a malformed element makes pydicom stumble over.
    """
    big = transfer_syntax_uid == EXPLICIT_VR_BE
    header = _header(data_set)
    numbers = _Numbers(data_set, ">" if big else "<")
    shape = numbers.shape() if _PIXEL_DATA in data_set else ()
    encoded, decoded = sha256(), sha256()
    encoded.update(b"" if transfer_syntax_uid in NATIVE else transfer_syntax_uid.encode())
    is_decoded = True
    for bulk, plain in _bulk(data_set, numbers, transfer_syntax_uid):
        encoded.update(struct.pack("<Q", len(bulk)) + bulk)
        is_decoded = is_decoded and plain is not None
        decoded.update(struct.pack("<Q", len(plain or b"")) + (plain or b""))
    return Content(
        shape,
        encoded.hexdigest(),
        decoded.hexdigest() if is_decoded else None,
        header,
        _is_lossy(data_set, transfer_syntax_uid),
    )


class LargeContent:
    """What a version holds that is too large for memory, told while it is read; its pixels are not decoded.

    Parameters
    ----------
    version : Version
    limit_bytes : int
        How long what comes before its pixels may be.
    """

    def __init__(self, version: Version, limit_bytes: int) -> None:
        self._version = version
        self._limit_bytes = limit_bytes
        self._beginning = bytearray()
        self._before: Dataset | None = None
        self._digest = sha256(version.transfer_syntax_uid.encode())

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the Part 10 file.

        Raises
        ------
        NotReadable
            No pixels come within the limit, or it is deflated.
        """
        if self._version.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LE:
            raise NotReadable("it is deflated, and too large for memory")
        if self._before is not None:
            self._digest.update(block)
            return
        self._beginning += block
        found = parse_until(bytes(self._beginning), self._version, _PIXEL_DATA)
        if found is not None:
            self._before, at = found
            self._digest.update(self._beginning[at:])
            self._beginning.clear()
        elif len(self._beginning) > self._limit_bytes:
            raise NotReadable(f"no pixel data comes within {self._limit_bytes} bytes")

    def close(self) -> Content:
        """Return what it holds, now that all of it was read.

        Raises
        ------
        NotReadable
            It has no pixels.
        """
        if self._before is None:
            raise NotReadable("it has no pixel data")
        syntax = self._version.transfer_syntax_uid
        header, is_lossy = _header(self._before), _is_lossy(self._before, syntax)
        shape = _Numbers(self._before, ">" if syntax == EXPLICIT_VR_BE else "<").shape()
        return Content(shape, self._digest.hexdigest(), None, header, is_lossy)


def _header(data_set: Dataset) -> str:
    from storage_node.services.native_encoding import encode

    return sha256(encode(_without(data_set, _BULK | _OF_ENCODING), explicit=False)).hexdigest()


def _is_lossy(data_set: Dataset, transfer_syntax_uid: str) -> bool:
    return transfer_syntax_uid in _LOSSY or text_of(data_set, _LOSSY_IMAGE_COMPRESSION) == "01"


def _without(data_set: Dataset, left_out: frozenset[int]) -> Dataset:
    from pydicom import Dataset

    kept = data_set.keys() - left_out
    return Dataset({tag: data_set.get_item(tag) for tag in kept})


class _Numbers:
    """The numbers of the Image Pixel module (PS3.3 C.7.6.3), as they were sent."""

    def __init__(self, data_set: Dataset, order: str) -> None:
        self._data_set = data_set
        self._short = struct.Struct(f"{order}H")
        self.rows, self.columns = self._number(_ROWS), self._number(_COLUMNS)
        self.samples = self._number(_SAMPLES) or 1
        self.bits_allocated, self.bits_stored = self._number(_BITS_ALLOCATED), self._number(_BITS_STORED)
        self.signed, self.planar = self._number(_PIXEL_REPRESENTATION), self._number(_PLANAR)
        self.frames = int(text_of(data_set, _FRAMES) or "1")

    def shape(self) -> tuple[int, ...]:
        return self.rows, self.columns, self.samples, self.bits_allocated, self.frames

    @property
    def frame_bits(self) -> int:
        return self.rows * self.columns * self.samples * self.bits_allocated

    @property
    def size_bytes(self) -> int:
        return (self.frame_bits * self.frames + 7) // 8

    @property
    def photometric(self) -> str:
        return text_of(self._data_set, _PHOTOMETRIC)

    def _number(self, tag: int) -> int:
        value = bytes_of(self._data_set, tag)
        number: int = self._short.unpack(value[:2])[0] if len(value) >= 2 else 0
        return number


def _bulk(data_set: Dataset, numbers: _Numbers, syntax: str) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what is to be compared: as it is encoded, and decoded, if it can be."""
    big = syntax == EXPLICIT_VR_BE
    for tag in sorted(_BULK.intersection(data_set.keys())):
        element = data_set.get_item(tag)
        value = element.value or b""
        if tag in _OTHER_BULK:
            yield value, _swapped(value, _OTHER_BULK[tag]) if big else value
        elif getattr(element, "length", 0) == _UNDEFINED_LENGTH:
            yield _fragments(value), _decompressed(value, numbers, syntax)
        else:
            yield value, _native(value, numbers, element.VR if big else None)
    for item in items_of(data_set, _WAVEFORM_SEQUENCE):
        value = bytes_of(item, _WAVEFORM_DATA)
        yield value, _swapped(value, 2) if big else value


def _native(value: bytes, numbers: _Numbers, big_endian_vr: str | None) -> bytes | None:
    """Return native pixels without padding, little endian, plane by plane."""
    if big_endian_vr == "OW":
        if numbers.bits_allocated > 16:
            return None
        value = _swapped(value, 2)
    value = value[: numbers.size_bytes] if numbers.size_bytes else value
    if numbers.samples > 1 and numbers.planar == 0 and numbers.bits_allocated % 8 == 0:
        size_bytes = numbers.frame_bits // 8
        frames = range(0, len(value), size_bytes or len(value) or 1)
        return b"".join(_by_plane(value[at : at + size_bytes], numbers) for at in frames)
    return value


def _by_plane(frame: bytes, numbers: _Numbers) -> bytes:
    """Return a frame of pixels, all samples of each together, with all of the first sample first."""
    width, samples = numbers.bits_allocated // 8, numbers.samples
    planes = bytearray()
    for sample in range(samples):
        plane = bytearray(len(frame) // samples)
        for byte in range(width):
            part = frame[sample * width + byte :: samples * width]
            plane[byte::width] = part
        planes += plane
    return bytes(planes)


def _fragments(value: bytes) -> bytes:
    """Return compressed pixels without the offset table and however they are parted (PS3.5 A.4)."""
    from pydicom.encaps import generate_fragments

    return b"".join(list(generate_fragments(value))[1:])


def _decompressed(value: bytes, numbers: _Numbers, syntax: str) -> bytes | None:
    """Return compressed pixels as `_native` returns them; None if they were not lossless, or nobody can."""
    from pydicom.pixels.decoders.base import get_decoder

    if syntax in _LOSSY or not 0 < numbers.size_bytes <= _DECODED_LIMIT_BYTES:
        return None
    try:
        decoder = get_decoder(syntax)
        if not decoder.is_available:
            return None
        frames = decoder.iter_buffer(
            value,
            rows=numbers.rows,
            columns=numbers.columns,
            samples_per_pixel=numbers.samples,
            bits_allocated=numbers.bits_allocated,
            bits_stored=numbers.bits_stored,
            number_of_frames=numbers.frames,
            photometric_interpretation=numbers.photometric,
            planar_configuration=numbers.planar,
            pixel_representation=numbers.signed,
            pixel_keyword="PixelData",
        )
        planes: list[bytes] = []
        for frame, described in frames:
            by_plane = numbers.samples == 1 or described.get("planar_configuration") == 1
            planes.append(bytes(frame) if by_plane else _by_plane(bytes(frame), numbers))
    except Exception:  # whatever a codec says of bytes that it cannot read: they cannot be compared
        return None
    return b"".join(planes)


def _swapped(value: bytes, width: int) -> bytes:
    """Return words in the other byte order; what is left over stays."""
    swapped = bytearray(value)
    whole = len(value) - len(value) % width
    for byte in range(width):
        swapped[byte:whole:width] = value[width - 1 - byte : whole : width]
    return bytes(swapped)
