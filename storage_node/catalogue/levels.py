"""At which level an attribute stands that is in no column (PS3.3 C.7, by the modules of its groups).

What is not named here describes an instance.
"""

from __future__ import annotations

import functools
from typing import Final

from cluster.dicom.elements import dictionary_vr
from cluster.nouns import Level
from storage_node.catalogue.attributes import ATTRIBUTES, Attribute

_MATCHED: Final = frozenset(
    (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL"),
        *("SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UR", "US", "UT", "UV"),
    )
)
"""Value Representations whose values are compared; the others hold bytes that mean nothing by themselves."""

_COMPUTED: Final = frozenset(
    (
        *(0x00080054, 0x00080056, 0x00081190, 0x00083002),
        *(0x00201200, 0x00201202, 0x00201204, 0x00201206, 0x00201208, 0x00201209),
    )
)
"""What an answer says of where an entity is and of what is below it, whatever its instances have there."""

_PATIENT_GROUP: Final = 0x0010
_STUDY_GROUPS: Final = frozenset((0x0032, 0x0038))
_PATIENT: Final = frozenset(
    (
        *(0x00081120, 0x00120010, 0x00120020, 0x00120021, 0x00120030, 0x00120031, 0x00120040, 0x00120042),
        *(0x00120062, 0x00120063, 0x00120064),
    )
)
"""Of the Patient and the Clinical Trial Subject Module, what is in another group than the patient's."""
_STUDY: Final = frozenset(
    (
        *(0x00080051, 0x00080063, 0x00080096, 0x0008009C, 0x0008009D, 0x00081032, 0x00081048, 0x00081049),
        *(0x00081060, 0x00081062, 0x00081080, 0x00081084, 0x00081110),
        *(0x00101010, 0x00101020, 0x00101021, 0x00101022, 0x00101030, 0x00102000, 0x00102110, 0x00102180),
        *(0x001021A0, 0x001021B0, 0x001021C0, 0x001021D0, 0x00102203),
        *(0x00120050, 0x00120051, 0x00120052, 0x00120053, 0x00120083, 0x00201070, 0x00401012, 0x4008010C),
    )
)
"""Of the General Study, Patient Study and Clinical Trial Study Module."""
_SERIES: Final = frozenset(
    (
        *(0x00080064, 0x00080068, 0x00080070, 0x00080080, 0x00080081, 0x00080082, 0x00081010, 0x0008103F),
        *(0x00081040, 0x00081041, 0x00081050, 0x00081052, 0x00081070, 0x00081072, 0x00081090, 0x00081111),
        *(0x00081250, 0x00120060, 0x00120071, 0x00120072, 0x00181000, 0x00181002, 0x00181008, 0x0018100B),
        *(0x00181020, 0x00181030, 0x00181050, 0x00181200, 0x00181201, 0x00185100, 0x00200052, 0x00200060),
        *(0x00201040, 0x00280108, 0x00280109, 0x00280120, 0x00400241, 0x00400242, 0x00400243, 0x00400250),
        *(0x00400251, 0x00400252, 0x00400253, 0x00400254, 0x00400255, 0x00400260, 0x00400275, 0x00400280),
    )
)
"""Of the General Series, Clinical Trial Series, Frame of Reference and General Equipment Module."""


@functools.lru_cache(maxsize=1024)
def attribute_of(tag: int) -> Attribute | None:
    """Return an attribute that can be matched, in a column or in none; None for all others.

    Private ones and those that PS3.6 does not have are others.
    """
    if tag in ATTRIBUTES:
        return ATTRIBUTES[tag]
    if tag in _COMPUTED or tag >> 16 & 1:
        return None
    vr = dictionary_vr(tag)
    return Attribute(tag, "", vr, level_of(tag)) if vr in _MATCHED else None


def level_of(tag: int) -> Level:
    """Return the level at which an attribute stands that is in no column."""
    group = tag >> 16
    if tag in _SERIES:
        return Level.SERIES
    if tag in _STUDY or group in _STUDY_GROUPS:
        return Level.STUDY
    if tag in _PATIENT or group == _PATIENT_GROUP:
        return Level.PATIENT
    return Level.IMAGE


@functools.lru_cache(maxsize=1024)
def has_several_values(tag: int) -> bool:
    """Whether an attribute may have several values by PS3.6."""
    from pydicom.datadict import dictionary_VM

    try:
        return dictionary_VM(tag) != "1"
    except KeyError:
        return False
