"""The attributes that can be matched: where they stand in the model, and what they are compared as.

A stored value and a key's value are compared in the same normal form, so that an index can do it: a padded
number as the number, a time with all its digits, a name without case and accents (PS3.4 C.2.2.2.1).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cluster.dicom.elements import SPECIFIC_CHARACTER_SET, PackedHeaderError, text, unpack
from cluster.nouns import Level
from storage_node.catalogue.moments import moment
from storage_node.catalogue.names import folded


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that a catalogue can match."""

    tag: int
    column: str
    """Its name in catalogues; empty for one that is in no column, and is read from the header."""
    vr: str
    level: Level
    """Where it stands in the Study Root model, and of what is PATIENT's in the Patient Root model."""


def _attributes(level: Level, *rows: tuple[int, str, str]) -> tuple[Attribute, ...]:
    return tuple(Attribute(tag, column, vr, level) for tag, column, vr in rows)


PATIENT_ID: Final = 0x00100020
ACCESSION_NUMBER: Final = 0x00080050
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
SOP_INSTANCE_UID: Final = 0x00080018
SOP_CLASS_UID: Final = 0x00080016
MODALITY: Final = 0x00080060
MODALITIES_IN_STUDY: Final = 0x00080061
SOP_CLASSES_IN_STUDY: Final = 0x00080062

UNIQUE_KEYS: Final = {
    Level.PATIENT: PATIENT_ID,
    Level.STUDY: STUDY_INSTANCE_UID,
    Level.SERIES: SERIES_INSTANCE_UID,
    Level.IMAGE: SOP_INSTANCE_UID,
}
"""The unique key of each level (PS3.4 C.6.1.1, C.6.2.1)."""

KEPT: Final = (
    *_attributes(
        Level.PATIENT,
        (0x00100010, "patient_name", "PN"),
        (PATIENT_ID, "patient_id", "LO"),
        (0x00100021, "issuer_of_patient_id", "LO"),
        (0x00100030, "patient_birth_date", "DA"),
        (0x00100032, "patient_birth_time", "TM"),
        (0x00100040, "patient_sex", "CS"),
    ),
    *_attributes(
        Level.STUDY,
        (0x00080020, "study_date", "DA"),
        (0x00080030, "study_time", "TM"),
        (ACCESSION_NUMBER, "accession_number", "SH"),
        (0x00080090, "referring_physician_name", "PN"),
        (0x00081030, "study_description", "LO"),
        (0x00200010, "study_id", "SH"),
    ),
    *_attributes(
        Level.SERIES,
        (MODALITY, "modality", "CS"),
        (0x00080021, "series_date", "DA"),
        (0x00080031, "series_time", "TM"),
        (0x0008103E, "series_description", "LO"),
        (0x00180015, "body_part_examined", "CS"),
        (0x00200011, "series_number", "IS"),
        (0x00400244, "performed_procedure_step_start_date", "DA"),
        (0x00400245, "performed_procedure_step_start_time", "TM"),
    ),
    *_attributes(
        Level.IMAGE,
        (0x00080023, "content_date", "DA"),
        (0x00080033, "content_time", "TM"),
        (0x00200013, "instance_number", "IS"),
    ),
)
"""Attributes that a catalogue keeps in columns, from the header of the instance that stands for an entity."""

ATTRIBUTES: Final = {
    attribute.tag: attribute
    for attribute in (
        *KEPT,
        *_attributes(
            Level.STUDY,
            (STUDY_INSTANCE_UID, "study_instance_uid", "UI"),
            (MODALITIES_IN_STUDY, "modality", "CS"),
            (SOP_CLASSES_IN_STUDY, "sop_class_uid", "UI"),
        ),
        *_attributes(Level.SERIES, (SERIES_INSTANCE_UID, "series_instance_uid", "UI")),
        *_attributes(
            Level.IMAGE,
            (SOP_INSTANCE_UID, "sop_instance_uid", "UI"),
            (SOP_CLASS_UID, "sop_class_uid", "UI"),
        ),
    )
}
"""All that a query can match."""

SINGLE_VALUED: Final = frozenset(("LT", "ST", "UR", "UT"))
"""Value Representations of a single value, which may have backslashes in it (PS3.5 6.2)."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,12}")
_TIME: Final = re.compile(r"[0-9]{2,6}(\.[0-9]{1,6})?")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]{1,16}(\.[0-9]{0,16})?|\.[0-9]{1,16})([eE][+-]?[0-9]{1,3})?")
_TIME_DIGITS: Final = "000000.000000"


def normal(vr: str, value: str) -> str:
    """Return one value, or one key, in the form that values of its VR are compared in.

    Wild cards go through unharmed. A value that is not what its VR says is compared as it is.
    """
    if vr in SINGLE_VALUED:
        return value.strip(" \0")
    value = _CONTROL.sub("", value).strip()
    match vr:
        case "PN":
            return folded(value)
        case "DA":
            return value.replace(".", "")
        case "TM":
            value = value.replace(":", "")
            return value + _TIME_DIGITS[len(value) :] if _TIME.fullmatch(value) else value
        case "DT":
            return moment(value) or value
        case "IS" if _INTEGER.fullmatch(value):
            return str(int(value))
        case "DS" if _DECIMAL.fullmatch(value):
            return str(Decimal(value).normalize() + 0)
    return value


def values_of(vr: str, stored: str) -> tuple[str, ...]:
    """Return the values of a stored text that was normalised: any one of these may match.

    They are apart by backslashes, but in a text in which a backslash is a character (PS3.5 6.4).
    """
    if vr in SINGLE_VALUED:
        return (stored,) if stored else ()
    return tuple(value for value in stored.split("\\") if value)


def normalised(vr: str, value: str | None) -> str | None:
    """Return a stored text with each of its values in normal form; None for no value."""
    if value is None:
        return None
    if "\\" not in value or vr in SINGLE_VALUED:
        return normal(vr, value) or None
    values = [normal(vr, single) for single in value.split("\\")]
    return "\\".join(values) if any(values) else None


@functools.lru_cache(maxsize=128)
def described(header: bytes) -> Mapping[str, str | None]:
    """Return the value in normal form of each attribute in `KEPT` by its column, from a packed header.

    A header that cannot be unpacked has no values. The catalogues of a process share the answers.
    """
    return dict(zip((a.column for a in KEPT), values_in(header, KEPT), strict=True))


def values_in(header: bytes, attributes: Collection[Attribute]) -> list[str | None]:
    """Return the value in normal form of each of some attributes, from a packed header (see `described`)."""
    try:
        elements = unpack(header, {SPECIFIC_CHARACTER_SET, *(a.tag for a in attributes)})
    except PackedHeaderError:
        elements = {}
    return [normalised(a.vr, text(elements, a.tag)) for a in attributes]
