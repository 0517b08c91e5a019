"""Which transfer syntax is taken of those that are offered: the first of our order (PS3.5 annex A)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cluster.dicom.uids import LONGEST_UID

IMPLICIT_VR_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LE: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LE: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BE: Final = "1.2.840.10008.1.2.2"
_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_RLE = "1.2.840.10008.1.2.5"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_COMPRESSED_ROOT = "1.2.840.10008.1.2.4."

SERVICE_ORDER: Final = (EXPLICIT_VR_LE, IMPLICIT_VR_LE)
"""For commands' own data sets: Identifiers and the like."""

_LOSSLESS: Final = (
    *(f"{_COMPRESSED_ROOT}{number}" for number in ("70", "57", "80", "90", "92", "201", "202", "110", "111")),
    _RLE,
    _DEFLATED_FRAMES,
)
_UNCOMPRESSED: Final = (
    _ENCAPSULATED_UNCOMPRESSED,
    EXPLICIT_VR_LE,
    DEFLATED_EXPLICIT_VR_LE,
    EXPLICIT_VR_BE,
    IMPLICIT_VR_LE,
)
_REFERENCED: Final = frozenset(f"{_COMPRESSED_ROOT}{number}" for number in ("94", "95", "204", "205"))
"""JPIP: the pixels stay with a server that may be gone tomorrow, so such an instance cannot be kept."""

_OTHER_COMPRESSED = len(_LOSSLESS)
_RANKS: Final = {uid: rank for rank, uid in enumerate(_LOSSLESS)} | {
    uid: _OTHER_COMPRESSED + 1 + rank for rank, uid in enumerate(_UNCOMPRESSED)
}
_UNKNOWN = _OTHER_COMPRESSED + 1 + len(_UNCOMPRESSED)


def choose_for_storage(offered: Iterable[str]) -> str | None:
    """Return the transfer syntax that an instance is to be sent in, or None if it could not be kept.

    What is compressed stays so, losslessly if there is a choice; then Explicit VR comes before Implicit. One
    that nobody has heard of comes last: data in it is kept as it is, but few could read it.

    Parameters
    ----------
    offered : iterable of str
        In the order of the requestor, which counts among equals.
    """
    keepable = [uid for uid in offered if 0 < len(uid) <= LONGEST_UID and uid not in _REFERENCED]
    return min(keepable, key=_rank, default=None)


def choose_for_service(offered: Iterable[str]) -> str | None:
    """Return the transfer syntax for a service's data sets, or None if we cannot read any that is offered."""
    offered = set(offered)
    return next((uid for uid in SERVICE_ORDER if uid in offered), None)


def _rank(uid: str) -> int:
    return _RANKS.get(uid, _OTHER_COMPRESSED if uid.startswith(_COMPRESSED_ROOT) else _UNKNOWN)
