"""SOP Class Extended Negotiation: what a service does beyond its baseline, as agreed (PS3.7 D.3.3.5).

What is told of a SOP class is a field of bytes, one for each extension: 1 to ask for it or to agree, 0 not to
(PS3.4 C.5). Bytes that are missing are 0.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cluster.dicom.uids import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """SOP Class Extended Negotiation sub-item, the same in request and answer (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes
    """Service-class-application-information."""


class Extension(enum.IntEnum):
    """Extensions of a C-FIND, by their place in the field (PS3.4 tables C.5-1, C.5-2).

    The first one is the relational retrieval of C-MOVE and C-GET, too (tables C.5-3, C.5-4).
    """

    RELATIONAL = 0
    COMBINED_DATE_TIME = 1
    FUZZY_NAMES = 2
    TIMEZONE_ADJUSTMENT = 3
    ENHANCED_MULTI_FRAME_CONVERSION = 4
    EMPTY_VALUES = 5
    MULTIPLE_VALUES = 6


def field(*extensions: Extension) -> bytes:
    """Return the field that names extensions, as short as can be."""
    return bytes(place in extensions for place in range(max(extensions, default=0) + 1))


_FIND: Final = field(
    Extension.RELATIONAL,
    Extension.COMBINED_DATE_TIME,
    Extension.FUZZY_NAMES,
    Extension.EMPTY_VALUES,
    Extension.MULTIPLE_VALUES,
)
_RETRIEVE: Final = field(Extension.RELATIONAL)

OFFERED: Final[Mapping[str, bytes]] = {
    PATIENT_ROOT_FIND: _FIND,
    STUDY_ROOT_FIND: _FIND,
    PATIENT_ROOT_MOVE: _RETRIEVE,
    STUDY_ROOT_MOVE: _RETRIEVE,
    PATIENT_ROOT_GET: _RETRIEVE,
    STUDY_ROOT_GET: _RETRIEVE,
}
"""What is done for each SOP class, where a peer asks for it.

Dates and times are compared as they are stored, as most say nothing of their timezone; and images come as
they were stored.
"""


def agree(asked: bytes, offered: bytes) -> bytes:
    """Return what is answered: each extension that both have, no more bytes than there were asked for."""
    return bytes(one == other == 1 for one, other in zip(asked, offered, strict=False))


def has(information: bytes, extension: Extension) -> bool:
    """Return whether a field has an extension."""
    return information[extension : extension + 1] == b"\1"
