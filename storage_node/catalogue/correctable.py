"""What people may correct of a patient, a study and a series, and which values are taken.

These are the attributes of the modules that describe an entity, as far as their values are text. What
identifies a study, a series or an instance is none of them: by it the objects are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cluster.nouns import Level
from storage_node.catalogue.attributes import PATIENT_ID

ISSUER_OF_PATIENT_ID: Final = 0x00100021
PATIENT_NAME: Final = 0x00100010
PATIENT_BIRTH_DATE: Final = 0x00100030
PATIENT_SEX: Final = 0x00100040

_OF_PATIENTS: Final = (
    *(PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, 0x00100022, PATIENT_BIRTH_DATE, 0x00100032),
    *(PATIENT_SEX, 0x00101000, 0x00101001, 0x00101005, 0x00101060, 0x00102160, 0x00104000),
)
"""Patient Module (PS3.3 C.7.1.1)."""
_OF_STUDIES: Final = (
    *(0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x0008009C, 0x00081030, 0x00081048, 0x00081060),
    *(0x00200010, 0x00321034),
    *(0x00081080, 0x00101010, 0x00101020, 0x00101030, 0x00102000, 0x00102110, 0x00102180, 0x001021A0),
    *(0x001021B0, 0x00380010),
)
"""General Study Module and Patient Study Module (PS3.3 C.7.2.1, C.7.2.2)."""
_OF_SERIES: Final = (
    *(0x00080060, 0x00200060, 0x00200011, 0x00080021, 0x00080031, 0x00081050, 0x00181030, 0x0008103E),
    *(0x00081070, 0x00180015, 0x00185100, 0x00400244, 0x00400245, 0x00400250, 0x00400251, 0x00400253),
    *(0x00400254, 0x00400280),
    *(0x00080080, 0x00080081, 0x00081010, 0x00081040),
)
"""General Series Module (PS3.3 C.7.3.1), and of General Equipment (C.7.5.1) where it was acquired."""

CORRECTABLE: Final = {
    Level.PATIENT: frozenset(_OF_PATIENTS),
    Level.STUDY: frozenset((*_OF_PATIENTS, *_OF_STUDIES)),
    Level.SERIES: frozenset(_OF_SERIES),
}
"""Tags of the attributes that may be corrected of an entity of each level."""

_ENUMERATED: Final = {PATIENT_SEX: ("M", "F", "O"), 0x00200060: ("R", "L")}
"""Enumerated Values (PS3.3 C.7.1.1, C.7.3.1)."""
_UNSEPARATED: Final = frozenset(("LT", "ST"))
"""Value Representations in which a backslash is a character (PS3.5 6.2)."""
_NAME_COMPONENTS: Final = 5
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_LONG_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class BadCorrection(Exception):
    """Something that cannot be corrected so; the message is one line for the user."""


def keyword(tag: int) -> str:
    """Return an attribute's keyword (PS3.6)."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def attribute(word: str, level: Level) -> int:
    """Return the tag of an attribute that may be corrected, by its keyword or tag (`00100010`, `0010,0010`).

    Raises
    ------
    BadCorrection
        There is no such attribute, or it is none that may be corrected at that level.
    """
    from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword

    found = _TAG.fullmatch(word)
    tag = int(found[1] + found[2], 16) if found else tag_for_keyword(word)
    if tag is None or not dictionary_has_tag(tag):
        raise BadCorrection(f"{word}: there is no such attribute: name it by keyword (PatientName) or tag")
    if tag in CORRECTABLE[level]:
        return tag
    if dictionary_VR(tag) == "UI":
        raise BadCorrection(f"{keyword(tag)} is a UID, by which objects are kept: it cannot be corrected")
    others = [other for other in CORRECTABLE if tag in CORRECTABLE[other]]
    hint = f": it is one of a {others[0].lower()}" if others else " that can be corrected"
    raise BadCorrection(f"{keyword(tag)} is no attribute of a {level.lower()}{hint}")


def corrections_of(words: Iterable[str], level: Level) -> dict[int, str]:
    """Read corrections as they are written on a command line, `KEYWORD=VALUE` each.

    Returns
    -------
    dict of int to str
        Texts by tags, without spaces around them; an empty one says that the attribute has no value.

    Raises
    ------
    BadCorrection
        As `attribute`; or a value is not one that the attribute may have.
    """
    texts: dict[int, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadCorrection(f"{word}: expected KEYWORD=VALUE")
        tag = attribute(name.strip(), level)
        if tag in texts:
            raise BadCorrection(f"{keyword(tag)} is given twice")
        texts[tag] = text.strip(" \0")
        _check(tag, texts[tag])
    return texts


def _check(tag: int, text: str) -> None:
    from pydicom.config import RAISE
    from pydicom.datadict import dictionary_VM, dictionary_VR
    from pydicom.valuerep import validate_value

    name, vr = keyword(tag), dictionary_VR(tag)
    values = [text] if vr in _UNSEPARATED else text.split("\\")
    if len(values) > 1 and dictionary_VM(tag) == "1":
        raise BadCorrection(f"{name} has one value: a backslash separates several")
    if tag == PATIENT_ID and not text:
        raise BadCorrection(f"{name} cannot be empty: it tells whose the images are")
    if (_CONTROL_IN_LONG_TEXT if vr in _UNSEPARATED else _CONTROL).search(text):
        raise BadCorrection(f"{name} has a control character")
    for value in filter(None, values):
        try:
            validate_value(vr, value, RAISE)
        except ValueError as error:
            raise BadCorrection(f"{name}: {str(error).partition(' Please see')[0]}") from error
        if vr == "DA" and not _is_day(value):
            raise BadCorrection(f"{name}: {value} is no day")
        if vr == "PN" and any(group.count("^") >= _NAME_COMPONENTS for group in value.split("=")):
            raise BadCorrection(f"{name} has more than {_NAME_COMPONENTS} components")
        if tag in _ENUMERATED and value not in _ENUMERATED[tag]:
            raise BadCorrection(f"{name}: expected {' or '.join(_ENUMERATED[tag])}, found {value}")


def _is_day(value: str) -> bool:
    try:
        datetime.strptime(value, "%Y%m%d")  # noqa: DTZ007  # a day has no zone
    except ValueError:
        return False
    return True
