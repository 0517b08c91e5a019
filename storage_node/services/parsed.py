"""A stored version as pydicom reads it, its values undecoded, whatever its transfer syntax."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE, EXPLICIT_VR_BE, IMPLICIT_VR_LE

if TYPE_CHECKING:
    from pydicom import Dataset

    from cluster.nouns import Version


class NotReadable(Exception):
    """The data set cannot be parsed to its end, or is too large by far once it is inflated."""


def parse(file: bytes, version: Version, limit_bytes: int) -> Dataset:
    """Read a version's data set.

    Parameters
    ----------
    file : bytes
        The Part 10 file.
    version : Version
        Which it is.
    limit_bytes : int
        What a deflated data set may inflate to.

    Raises
    ------
    NotReadable
    """
    from pydicom.filereader import read_dataset

    syntax = version.transfer_syntax_uid
    try:
        data_set = file[version.data_set_offset_bytes :]
        if syntax == DEFLATED_EXPLICIT_VR_LE:
            data_set = _inflated(data_set, limit_bytes)
        return read_dataset(BytesIO(data_set), syntax == IMPLICIT_VR_LE, syntax != EXPLICIT_VR_BE)
    except NotReadable:
        raise
    except Exception as error:  # pydicom raises whatever a malformed element makes it stumble over
        # Its message may quote values.
        raise NotReadable(f"the data set cannot be read: {type(error).__name__}") from error


def parse_until(beginning: bytes, version: Version, tag: int) -> tuple[Dataset, int] | None:
    """Read what of a version comes before an element at top level.

    Parameters
    ----------
    beginning : bytes
        Of the Part 10 file, as much of it as there is so far.
    version : Version
        Which it is; not one that is deflated.
    tag : int

    Returns
    -------
    tuple of Dataset and int, or None
        And where that element begins in the file; None if it is not reached.
    """
    from pydicom.filereader import read_dataset

    syntax = version.transfer_syntax_uid
    big = syntax == EXPLICIT_VR_BE
    stream = BytesIO(beginning[version.data_set_offset_bytes :])
    try:
        data_set = read_dataset(
            stream, syntax == IMPLICIT_VR_LE, not big, stop_when=lambda found, *_: found == tag
        )
    except Exception:  # pydicom raises whatever comes of an element that is cut in two
        return None
    at = version.data_set_offset_bytes + stream.tell()
    begins = struct.pack(">HH" if big else "<HH", tag >> 16, tag & 0xFFFF)
    return (data_set, at) if beginning[at : at + len(begins)] == begins else None


def bytes_of(data_set: Dataset, tag: int) -> bytes:
    """Return a value as it was sent; nothing where there is no such element."""
    element = data_set.get_item(tag) if tag in data_set else None
    value = getattr(element, "value", None) or b""
    # Specific Character Set is decoded at once.
    return value.encode("latin_1") if isinstance(value, str) else bytes(value)


def text_of(data_set: Dataset, tag: int) -> str:
    """Return a value of ASCII text as it was sent, without its padding: pydicom would warn of what is odd."""
    return bytes_of(data_set, tag).decode("latin_1").strip(" \0")


def items_of(data_set: Dataset, tag: int) -> list[Dataset]:
    """Return the items of a sequence."""
    return list(data_set[tag].value or ()) if tag in data_set else []


def _inflated(data_set: bytes, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data_set, limit_bytes)
    if inflater.unconsumed_tail:
        raise NotReadable(f"the deflated data set has more than {limit_bytes} bytes")
    return inflated
