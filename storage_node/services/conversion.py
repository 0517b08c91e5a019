"""A native data set in another native transfer syntax, for a peer that takes no other (PS3.5 10.1).

What is stored is never touched. A copy on its way out is re-encoded only when the peer has accepted no
presentation context for the transfer syntax that it is stored in, and only among the little-endian native
ones, where each value stays what it was, byte by byte: no value is decoded, so none can be spoiled, and none
can get into a log line.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE, EXPLICIT_VR_LE, IMPLICIT_VR_LE

NATIVE: Final = (EXPLICIT_VR_LE, IMPLICIT_VR_LE, DEFLATED_EXPLICIT_VR_LE)
"""Transfer syntaxes that can be made from one another."""


class NotConvertible(Exception):
    """The data set cannot be had in the transfer syntax that the peer takes."""


def convert(data_set: bytes, source: str, target: str) -> bytes:
    """Re-encode a data set. Group lengths (PS3.5 7.2) go, as they would no longer be true.

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

    from pydicom.filereader import read_dataset

    from storage_node.services.native_encoding import encode

    try:
        encoded = (
            zlib.decompress(data_set, -zlib.MAX_WBITS) if source == DEFLATED_EXPLICIT_VR_LE else data_set
        )
        if (source == IMPLICIT_VR_LE) != (target == IMPLICIT_VR_LE):
            elements = read_dataset(BytesIO(encoded), source == IMPLICIT_VR_LE, is_little_endian=True)
            encoded = encode(elements, explicit=target != IMPLICIT_VR_LE)
    except Exception as error:  # pydicom raises whatever a malformed element makes it stumble over
        # Its message may quote values.
        raise NotConvertible(f"from {source} to {target}: {type(error).__name__}") from error
    if target == DEFLATED_EXPLICIT_VR_LE:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflater.compress(encoded) + deflater.flush()
        encoded += b"\0" * (len(encoded) % 2)
    return encoded
