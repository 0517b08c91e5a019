"""Random data sets and Identifiers: as dictionaries by keyword, and as the raw elements that arrive."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import PersonName

from cluster.dicom.elements import VR_OF_32_BIT_LENGTH, Element
from cluster.nouns import Level

Values: TypeAlias = dict[str, Any]

_NAMES: Final = {
    "": [
        "Doe^Jane",
        "DOE^JANE^^",
        "Doe",
        "Smith^Ann=x",
        "Smyth^Anna",
        "O'Neil^A_B%",
        "A\\Doe^Jane",
        "",
        "^^",
    ],
    "ISO_IR 100": ["Müller^Jürgen", "Åsa^Ö", "Muller^Jurgen"],
    "ISO_IR 192": ["Müller^Jürgen", "Yamada^Tarou=山田^太郎=やまだ^たろう", "=김^철수", "がくじ^か"],
    "\\ISO 2022 IR 87": ["Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou^^=山田^太郎^^"],
    "\\ISO 2022 IR 149": ["Kim^Chulsoo=金^哲秀=김^철수"],
    "GB18030": ["Wang^XiaoDong=王^小东", "Wang^XiaoDong"],
}
_NAME_KEYS: Final = [
    *("Doe^Jane", "doe^jane^^", "Doe^*", "D?e^J*", "*", "", "muller^jurgen", "MÜLLER*", "*%", "*_B*"),
    *(
        "山田^太郎",
        "山*",
        "山?^太郎",
        "=山田^太郎",
        "yamada^tarou==やまだ^たろう",
        "*=山田*",
        "やまた*",
        "か*",
    ),
    *(
        "김^철수",
        "김^*",
        "?^철?",
        "王^小东",
        "wang*",
        "x",
        "Jane Doe",
        "Jan",
        "Mueler",
        "Smith",
        "A\\Doe",
        '""',
    ),
]
_TEXTS: Final = ["A", "a", "A%", "A_B", "AxB", "A\\B1", "[B1]", "100%", "A\\A", "x" * 70, "", None]
_TEXT_KEYS: Final = [
    *("A", "a*", "*B*", "?", "A?B", "A\\B1", "B1\\A", "100%", "A_B", "A%*", "[B*", "*", "**", "", '""'),
    *("x" * 70, f"{'x' * 60}*", "*x*x*", "A**B", " A ", "\\", "A\\"),
]
_DATES: Final = ["20240101", "20240102", "2024.01.03", "20231231\\20240105", "2024", "abc", "", None]
_DATE_KEYS: Final = [
    *("20240101", "2024.01.02", "20240102-", "-20240102", "20240102-20240104", "20240101 - 20240101"),
    *("", "*", "-", '""', "20240101\\20240105", "19000101-99991231"),
]
_TIMES: Final = ["08", "0830", "083000", "08:30:00.5", "235959.999999", "x", "", None, "10\\12"]
_TIME_KEYS: Final = ["0830", "08", "08:30:00.50", "08-10", "0830-", "-0830", "0900-0830", "", "*", '""']
_MOMENTS: Final = [
    *("2024", "20240101083000", "20240101083000.5+0200", "20240101063000-0000", "x", "", None),
    "20231231233000-0100",
]
_MOMENT_KEYS: Final = [
    *("20240101083000", "20240101063000+0000", "2024-2025", "2024", "-20240101", "20240101-", ""),
    "20240101000000-0100-20240101120000+0100",
]
_CODES: Final = ["CT", "MR", "CT\\MR", "", None]
_INTEGERS: Final = ["1", " 01", "+2", "2\\3", "x", "", None]
_UIDS: Final = [f"1.{n}" for n in range(1, 4)]


def _one(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def _items(inside: Mapping[str, list[Any]], limit: int) -> st.SearchStrategy[list[Values]]:
    return st.lists(
        st.fixed_dictionaries({}, optional={name: _one(*values) for name, values in inside.items()}),
        max_size=limit,
    )


@dataclass(frozen=True)
class _Keyword:
    level: Level
    stored: st.SearchStrategy[Any]
    keys: st.SearchStrategy[Any]


def _keyword(level: Level, stored: list[Any], keys: list[Any]) -> _Keyword:
    return _Keyword(level, _one(*stored), _one(*keys))


_REQUEST: Final[dict[str, list[Any]]] = {
    "ScheduledProcedureStepID": _TEXTS[:6],
    "RequestedProcedureID": ["R1", "R2", ""],
}
_REQUEST_KEYS: Final[dict[str, list[Any]]] = {
    "ScheduledProcedureStepID": _TEXT_KEYS[:10],
    "RequestedProcedureID": ["R1", "R?", "*", ""],
}
_OTHER_IDS: Final[dict[str, list[Any]]] = {"PatientID": _TEXTS[:6], "IssuerOfPatientID": ["X", "Y", ""]}
_OTHER_IDS_KEYS: Final[dict[str, list[Any]]] = {
    "PatientID": _TEXT_KEYS[:10],
    "IssuerOfPatientID": ["X", "?", ""],
}

KEYWORDS: Final = {
    "PatientID": _keyword(Level.PATIENT, _TEXTS, _TEXT_KEYS),
    "IssuerOfPatientID": _keyword(Level.PATIENT, _TEXTS, _TEXT_KEYS),
    "PatientBirthDate": _keyword(Level.PATIENT, _DATES, _DATE_KEYS),
    "PatientComments": _keyword(
        Level.PATIENT, ["A\\B\nC", "A", "", None], ["A\\B\nC", "A\\BC", "A", "A\\*", "*BC", "B", ""]
    ),
    "PatientWeight": _keyword(
        Level.STUDY, ["70", "70.50", "7e1", "x", "", None], ["70", "70.5", "7.0E+1", ""]
    ),
    "OtherPatientIDsSequence": _Keyword(Level.PATIENT, _items(_OTHER_IDS, 3), _items(_OTHER_IDS_KEYS, 1)),
    "StudyDate": _keyword(Level.STUDY, _DATES, _DATE_KEYS),
    "StudyTime": _keyword(Level.STUDY, _TIMES, _TIME_KEYS),
    "StudyDescription": _keyword(Level.STUDY, _TEXTS, _TEXT_KEYS),
    "AccessionNumber": _keyword(Level.STUDY, _TEXTS, _TEXT_KEYS),
    "OtherPatientNames": _keyword(
        Level.PATIENT, ["Doe^Jane\\Roe^Jane", "", None], ["roe*", "Doe^Jane\\Roe^Jane", '""']
    ),
    "Modality": _keyword(Level.SERIES, _CODES, ["CT", "C*", "CT\\MR", "", '""']),
    "SeriesNumber": _keyword(Level.SERIES, _INTEGERS, ["1", "02", "+3", "x", ""]),
    "SeriesDescription": _keyword(Level.SERIES, _TEXTS, _TEXT_KEYS),
    "InstitutionName": _keyword(Level.SERIES, _TEXTS, _TEXT_KEYS),
    "RequestAttributesSequence": _Keyword(Level.SERIES, _items(_REQUEST, 3), _items(_REQUEST_KEYS, 1)),
    "InstanceNumber": _keyword(Level.IMAGE, _INTEGERS, ["1", "02", "+3", "x", ""]),
    "ContentDate": _keyword(Level.IMAGE, _DATES, _DATE_KEYS),
    "ContentTime": _keyword(Level.IMAGE, _TIMES, _TIME_KEYS),
    "AcquisitionDateTime": _keyword(Level.IMAGE, _MOMENTS, _MOMENT_KEYS),
    "ImageType": _keyword(
        Level.IMAGE, ["ORIGINAL\\PRIMARY", "DERIVED", "", None], ["DERIVED", "PRIMARY\\ORIGINAL", '""']
    ),
    "Rows": _keyword(Level.IMAGE, [1, 512, None], [1, 512]),
}
"""Attributes but name and UIDs: at which level they stand, what they may be, how they are asked for."""

_LEVELS: Final = list(Level)


def stored(level: Level) -> st.SearchStrategy[Values]:
    """Return what data sets may have in common that belong to one entity of a level."""
    return st.fixed_dictionaries(
        {},
        optional={
            name: keyword.stored.filter(lambda value: value is not None)
            for name, keyword in KEYWORDS.items()
            if keyword.level is level
        },
    )


NAMED: Final = st.sampled_from(sorted(_NAMES)).flatmap(
    lambda terms: st.fixed_dictionaries(
        {"SpecificCharacterSet": _one(terms), "PatientName": _one(*_NAMES[terms], *_NAMES[""])}
    )
)
"""A name, in a character set that has its characters."""


def identifiers(level: Level) -> st.SearchStrategy[Values]:
    """Return keys that a query of a level may have."""
    levels = _LEVELS[: _LEVELS.index(level) + 1]
    possible = {name: keyword.keys for name, keyword in KEYWORDS.items() if keyword.level in levels}
    possible["PatientName"] = _one(*_NAME_KEYS)
    if level is not Level.PATIENT:
        possible["StudyInstanceUID"] = st.lists(_one(*_UIDS), min_size=1, max_size=2).map("\\".join)
    if level is Level.STUDY:
        possible["ModalitiesInStudy"] = _one("CT", "M?", "CT\\MR", '""', "")
    some = st.lists(_one(*sorted(possible)), min_size=1, max_size=2, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({name: possible[name] for name in names}))


def elements(values: Values, *, explicit: bool = True) -> dict[int, Element]:
    """Return the raw elements of a data set."""
    terms = values.get("SpecificCharacterSet", "")
    encodings = convert_encodings(terms.split("\\")) if terms else ["iso8859"]
    return {
        tag_for_keyword(name) or 0: Element(
            dictionary_VR(name)[:2] if explicit else None, _encoded(name, value, encodings, explicit=explicit)
        )
        for name, value in values.items()
    }


def encoded(values: Values, *, explicit: bool = True) -> bytes:
    """Return a data set in Explicit or Implicit VR Little Endian."""
    return b"".join(
        _header(tag, element, explicit=explicit) + element.value
        for tag, element in sorted(elements(values, explicit=explicit).items())
    )


def _encoded(name: str, value: Any, encodings: list[str], *, explicit: bool) -> bytes:
    if isinstance(value, list):
        return b"".join(_item(item, explicit=explicit, is_open=bool(n % 2)) for n, item in enumerate(value))
    if isinstance(value, int):
        return struct.pack("<H", value)
    if dictionary_VR(name) == "PN":
        return b"\\".join(PersonName(one).encode(encodings) for one in value.split("\\"))
    encoded: bytes = value.encode(encodings[0] if len(encodings) == 1 else "ascii")
    return encoded + b" " * (len(encoded) % 2)


def _item(values: Values, *, explicit: bool, is_open: bool) -> bytes:
    inside = encoded(values, explicit=explicit)
    if is_open:
        return (
            struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inside + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        )
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside


def _header(tag: int, element: Element, *, explicit: bool) -> bytes:
    place, length = (tag >> 16, tag & 0xFFFF), len(element.value)
    if not explicit or element.vr is None:
        return struct.pack("<HHI", *place, length)
    if element.vr in VR_OF_32_BIT_LENGTH:
        return struct.pack("<HH2sHI", *place, element.vr.encode(), 0, length)
    return struct.pack("<HH2sH", *place, element.vr.encode(), length)
