"""A native data set in another native transfer syntax, for a peer that takes no other (PS3.5 10.1).

What is stored is never touched. A copy on its way out is re-encoded only when the peer has accepted no
presentation context for the transfer syntax that it is stored in, and only among the little-endian native
ones, where each value stays what it was, byte by byte.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"

NATIVE: Final = (EXPLICIT, IMPLICIT, DEFLATED)
"""Transfer syntaxes that can be made from one another."""


class NotConvertible(Exception):
    """The data set cannot be had in the transfer syntax that the peer takes."""


def convert(data_set: bytes, source: str, target: str) -> bytes:
    """Re-encode a data set.

    Parameters
    ----------
    data_set : bytes
        The data set without preamble and File Meta Information.
    source, target : str
        Transfer syntax UIDs, both of `NATIVE`.

    Raises
    ------
    NotConvertible
        One of them is not native, or the data set cannot be parsed to its end.
    """
    if source not in NATIVE or target not in NATIVE:
        raise NotConvertible(f"from {source} to {target}: only native transfer syntaxes are converted")
    import zlib

    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_dataset

    try:
        plain = zlib.decompress(data_set, -zlib.MAX_WBITS) if source == DEFLATED else data_set
        elements = read_dataset(BytesIO(plain), source == IMPLICIT, is_little_endian=True)
        out = DicomBytesIO()
        out.is_little_endian = True
        out.is_implicit_VR = target == IMPLICIT
        write_dataset(out, elements)
    except Exception as error:  # pydicom raises whatever a malformed element makes it stumble over
        raise NotConvertible(f"from {source} to {target}: {type(error).__name__}: {error}") from error
    encoded = out.getvalue()
    if target == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflater.compress(encoded) + deflater.flush()
        encoded += b"\0" * (len(encoded) % 2)
    return encoded
