"""The Identifier of a C-FIND response (PS3.4 C.4.1.1.3.2): values as they are stored, and what is counted."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Final

from cluster.dicom.elements import SPECIFIC_CHARACTER_SET, VR_OF_16_BIT_LENGTH, Element, unpack
from cluster.dicom.elements import VR_OF_32_BIT_LENGTH as _LONG_VRS
from cluster.dicom.transfer_syntaxes import IMPLICIT_VR_LE
from cluster.nouns import Level
from storage_node.catalogue.attributes import (
    ATTRIBUTES,
    MODALITIES_IN_STUDY,
    SOP_CLASSES_IN_STUDY,
    UNIQUE_KEYS,
)
from storage_node.catalogue.matching import QUERY_RETRIEVE_LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.dicom.elements import Elements
    from storage_node.catalogue.matching import Request
    from storage_node.catalogue.protocol import Match

_RETRIEVE_AE_TITLE: Final = 0x00080054
_INSTANCE_AVAILABILITY: Final = 0x00080056
_AVAILABLE_TRANSFER_SYNTAX_UID: Final = 0x00083002
_PATIENT_STUDIES, _PATIENT_SERIES, _PATIENT_INSTANCES = 0x00201200, 0x00201202, 0x00201204
_STUDY_SERIES, _STUDY_INSTANCES = 0x00201206, 0x00201208
_SERIES_INSTANCES: Final = 0x00201209

_VRS: Final = VR_OF_16_BIT_LENGTH | _LONG_VRS
_LEVELS: Final = tuple(Level)


def answer(match: Match, request: Request, transfer_syntax_uid: str, ae_title: str) -> bytes:
    """Return the Identifier that tells of a match.

    Parameters
    ----------
    match : Match
    request : Request
        Which attributes it shall have. One that is not known of the entity comes back without a value.
    transfer_syntax_uid : str
        That of the presentation context: Implicit or Explicit VR Little Endian.
    ae_title : str
        Where the instances can be retrieved from.

    Raises
    ------
    PackedHeaderError
        What the catalogue keeps of the match is damaged.
    """
    level = request.query.level
    header = unpack(match.header)
    known = _computed(match, level)
    elements = {tag: known.get(tag) or _stored(header, tag, level) for tag in request.requested}
    elements[QUERY_RETRIEVE_LEVEL] = _text("CS", level)
    elements[_RETRIEVE_AE_TITLE] = _text("AE", ae_title)
    character_set = header.get(SPECIFIC_CHARACTER_SET)
    if character_set is not None and not all(_is_plain(element.value) for element in elements.values()):
        elements[SPECIFIC_CHARACTER_SET] = character_set
    return encode(elements, explicit=transfer_syntax_uid != IMPLICIT_VR_LE)


def encode(elements: Elements, *, explicit: bool) -> bytes:
    """Return elements as a data set in Explicit or Implicit VR Little Endian (PS3.5 7.1)."""
    parts: list[bytes] = []
    for tag in sorted(elements):
        stored_vr, value = elements[tag]
        vr = stored_vr if stored_vr in _VRS else _dictionary_vr(tag)
        if vr == "SQ":
            value = _sequence(value, was_explicit=stored_vr is not None, explicit=explicit)
        if len(value) % 2:
            value += b"\0" if vr in ("OB", "UI", "UN") else b" "
        group, number = tag >> 16, tag & 0xFFFF
        if not explicit:
            parts += (struct.pack("<HHI", group, number, len(value)), value)
        elif vr in _LONG_VRS:
            parts += (struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)), value)
        else:
            parts += (struct.pack("<HH2sH", group, number, vr.encode(), len(value)), value)
    return b"".join(parts)


def _computed(match: Match, level: Level) -> Mapping[int, Element]:
    """Return what the catalogue knows of an entity beyond the header of the instance that stands for it."""
    instance = match.version.instance
    known = {_INSTANCE_AVAILABILITY: _text("CS", "ONLINE")}
    for at, uid in (
        (Level.STUDY, instance.study_instance_uid),
        (Level.SERIES, instance.series_instance_uid),
        (Level.IMAGE, instance.sop_instance_uid),
    ):
        if _LEVELS.index(at) <= _LEVELS.index(level):
            known[UNIQUE_KEYS[at]] = _text("UI", uid)
    match level:
        case Level.PATIENT:
            known[_PATIENT_STUDIES] = _text("IS", str(match.studies))
            known[_PATIENT_SERIES] = _text("IS", str(match.series))
            known[_PATIENT_INSTANCES] = _text("IS", str(match.instances))
        case Level.STUDY:
            known[_STUDY_SERIES] = _text("IS", str(match.series))
            known[_STUDY_INSTANCES] = _text("IS", str(match.instances))
            known[MODALITIES_IN_STUDY] = _text("CS", "\\".join(match.modalities))
            known[SOP_CLASSES_IN_STUDY] = _text("UI", "\\".join(match.sop_classes))
        case Level.SERIES:
            known[_SERIES_INSTANCES] = _text("IS", str(match.instances))
        case Level.IMAGE:
            known[_AVAILABLE_TRANSFER_SYNTAX_UID] = _text("UI", match.version.transfer_syntax_uid)
    return known


_NEVER_STORED: Final = frozenset(
    (
        *(MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, _AVAILABLE_TRANSFER_SYNTAX_UID),
        *(_PATIENT_STUDIES, _PATIENT_SERIES, _PATIENT_INSTANCES),
        *(_STUDY_SERIES, _STUDY_INSTANCES, _SERIES_INSTANCES),
    )
)
"""Attributes that are counted, at their level; a sender's own value is not what they mean here."""


def _stored(header: Elements, tag: int, level: Level) -> Element:
    attribute = ATTRIBUTES.get(tag)
    is_below = attribute is not None and _LEVELS.index(attribute.level) > _LEVELS.index(level)
    element = None if is_below or tag in _NEVER_STORED else header.get(tag)
    return element or Element(None, b"")


def _text(vr: str, value: str) -> Element:
    return Element(vr, value.encode("latin_1", "replace"))


def _is_plain(value: bytes) -> bool:
    return value.isascii() and b"\x1b" not in value


def _dictionary_vr(tag: int) -> str:
    """Return the VR that an attribute has by PS3.6, the first where it may have several; UN if not known."""
    if tag in ATTRIBUTES:
        return ATTRIBUTES[tag].vr
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def _sequence(value: bytes, *, was_explicit: bool, explicit: bool) -> bytes:
    """Return the items of a sequence in the encoding of the answer; none if they cannot be read."""
    if was_explicit == explicit or not value:
        return value
    from pydicom.filereader import read_sequence

    from storage_node.services.native_encoding import encode_items

    try:
        items = read_sequence(BytesIO(value), not was_explicit, True, len(value), "iso8859")
        return encode_items(items, explicit=explicit)
    except Exception:  # pydicom raises anything on what is malformed: the answer goes without
        return b""
