"""The Identifiers of C-FIND responses (PS3.4 C.4.1.1.3.2): values as they are stored, and what is counted."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cluster.dicom.character_sets import DEFAULT, UTF_8, repertoire
from cluster.dicom.elements import SPECIFIC_CHARACTER_SET, Element, repertoire_of, unpack
from cluster.dicom.transfer_syntaxes import IMPLICIT_VR_LE
from cluster.nouns import Level
from storage_node.catalogue.attributes import (
    ATTRIBUTES,
    MODALITIES_IN_STUDY,
    SOP_CLASSES_IN_STUDY,
    UNIQUE_KEYS,
)
from storage_node.catalogue.headers import matching_items
from storage_node.catalogue.keys import Items
from storage_node.catalogue.matching import QUERY_RETRIEVE_LEVEL
from storage_node.services.corrected_copy import texts_of
from storage_node.services.data_set import Value, choose, encode, sequence_of, value_of, wanted_of

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

COUNTED: Final = {
    Level.PATIENT: frozenset((_PATIENT_STUDIES, _PATIENT_SERIES, _PATIENT_INSTANCES)),
    Level.STUDY: frozenset((_STUDY_SERIES, _STUDY_INSTANCES, MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY)),
    Level.SERIES: frozenset((_SERIES_INSTANCES,)),
    Level.IMAGE: frozenset[int](),
}
"""What is counted of the entities of each level; a sender's own value is not what they mean here."""
_NEVER_STORED: Final = frozenset((_AVAILABLE_TRANSFER_SYNTAX_UID,)).union(*COUNTED.values())
_NOTHING: Final[Mapping[Level, Match]] = MappingProxyType({})
_LEVELS: Final = tuple(Level)
_TIMEZONE_OFFSET_FROM_UTC: Final = 0x00080201


class Answers:
    """The Identifiers of the responses to one query.

    Parameters
    ----------
    request : Request
        Which attributes they shall have. One that is not known of an entity comes back without a value.
    identifier : Elements
        The query as it came: what it asks of the items of sequences, and in which character set.
    transfer_syntax_uid : str
        That of the presentation context: Implicit or Explicit VR Little Endian.
    ae_title : str
        Where the instances can be retrieved from.
    character_set : str or None
        The one that the peer is to be answered in, rather than in that of its query.
    """

    def __init__(
        self,
        request: Request,
        identifier: Elements,
        transfer_syntax_uid: str,
        ae_title: str,
        character_set: str | None = None,
    ) -> None:
        self._request = request
        self._kept = {*request.requested, SPECIFIC_CHARACTER_SET, _TIMEZONE_OFFSET_FROM_UTC}
        self._wanted = wanted_of(identifier)
        self._matched = {key.attribute.tag: key for key in request.query.residual if isinstance(key, Items)}
        self._is_explicit = transfer_syntax_uid != IMPLICIT_VR_LE
        self._ae_title = ae_title
        self._tells_timezone = _TIMEZONE_OFFSET_FROM_UTC in identifier
        asked = repertoire_of(identifier)
        self._preferred = (asked,) if character_set is None else (repertoire(character_set.encode()), asked)

    def identifier(self, match: Match, above: Mapping[Level, Match] = _NOTHING) -> bytes:
        """Return the Identifier that tells of a match.

        Parameters
        ----------
        match : Match
        above : mapping of Level to Match
            Entities that it belongs to, where something that is counted of them was asked for.

        Raises
        ------
        PackedHeaderError
            What the catalogue keeps of the match is damaged.
        """
        level = self._request.query.level
        header = unpack(match.header, self._kept)
        stored_in = repertoire_of(header)
        known = _computed(match, level)
        for upper, entity in above.items():
            known |= _counted(entity, upper)
        values: dict[int, Value] = {}
        corrected = texts_of(match.corrected) if match.corrected else {}
        for tag in self._request.requested:
            if tag in corrected and tag not in known and not _is_below(tag, level):
                element = Element(None, corrected[tag].encode())
                values[tag] = value_of(tag, element, UTF_8)
            elif tag in self._matched:
                items = matching_items(self._matched[tag], header)
                values[tag] = sequence_of(items, stored_in, self._wanted.get(tag))
            else:
                element = known.get(tag) or _stored(header, tag, level)
                values[tag] = value_of(tag, element, stored_in, self._wanted.get(tag))
        values[QUERY_RETRIEVE_LEVEL] = _value("CS", level)
        values[_RETRIEVE_AE_TITLE] = _value("AE", self._ae_title)
        if self._tells_timezone and _TIMEZONE_OFFSET_FROM_UTC in header:
            values[_TIMEZONE_OFFSET_FROM_UTC] = Value("SH", header[_TIMEZONE_OFFSET_FROM_UTC].value)
        character_set = choose(values.values(), self._preferred)
        if character_set.terms != DEFAULT.terms:
            values[SPECIFIC_CHARACTER_SET] = _value("CS", "\\".join(character_set.terms))
        return encode(values, character_set, explicit=self._is_explicit)


def _computed(match: Match, level: Level) -> dict[int, Element]:
    """Return what the catalogue knows of an entity beyond the header of the instance that stands for it."""
    instance = match.version.instance
    known = {_INSTANCE_AVAILABILITY: _text("CS", "ONLINE"), **_counted(match, level)}
    for at, uid in (
        (Level.STUDY, instance.study_instance_uid),
        (Level.SERIES, instance.series_instance_uid),
        (Level.IMAGE, instance.sop_instance_uid),
    ):
        if _LEVELS.index(at) <= _LEVELS.index(level):
            known[UNIQUE_KEYS[at]] = _text("UI", uid)
    if level is Level.IMAGE:
        known[_AVAILABLE_TRANSFER_SYNTAX_UID] = _text("UI", match.version.transfer_syntax_uid)
    return known


def _counted(match: Match, level: Level) -> dict[int, Element]:
    """Return what is counted of an entity."""
    match level:
        case Level.PATIENT:
            return {
                _PATIENT_STUDIES: _text("IS", str(match.studies)),
                _PATIENT_SERIES: _text("IS", str(match.series)),
                _PATIENT_INSTANCES: _text("IS", str(match.instances)),
            }
        case Level.STUDY:
            return {
                _STUDY_SERIES: _text("IS", str(match.series)),
                _STUDY_INSTANCES: _text("IS", str(match.instances)),
                MODALITIES_IN_STUDY: _text("CS", "\\".join(match.modalities)),
                SOP_CLASSES_IN_STUDY: _text("UI", "\\".join(match.sop_classes)),
            }
        case Level.SERIES:
            return {_SERIES_INSTANCES: _text("IS", str(match.instances))}
        case Level.IMAGE:
            return {}


def _stored(header: Elements, tag: int, level: Level) -> Element:
    element = None if _is_below(tag, level) or tag in _NEVER_STORED else header.get(tag)
    return element or Element(None, b"")


def _is_below(tag: int, level: Level) -> bool:
    attribute = ATTRIBUTES.get(tag)
    return attribute is not None and _LEVELS.index(attribute.level) > _LEVELS.index(level)


def _text(vr: str, value: str) -> Element:
    return Element(vr, value.encode("latin_1", "replace"))


def _value(vr: str, text: str) -> Value:
    return Value(vr, _text(vr, text).value)
