"""Dates, times and date-times: the form they are compared in, and ranges of them (PS3.4 C.2.2.2.5)."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime
from typing import Final

_DATE: Final = r"\d{4}\.\d\d\.\d\d|\d{8}"
_TIME: Final = r"\d\d(?::?\d\d(?::?\d\d(?:\.\d{1,6})?)?)?"
_OFFSET: Final = r"[+-](?:0\d|1[0-4])[0-5]\d"
_DATE_TIME: Final = rf"\d{{4}}(?:\d\d(?:\d\d(?:\d\d(?:\d\d(?:\d\d(?:\.\d{{1,6}})?)?)?)?)?)?(?:{_OFFSET})?"
_FORMS: Final = {"DA": _DATE, "TM": _TIME, "DT": _DATE_TIME}

_SINGLE: Final = {vr: re.compile(form, re.ASCII) for vr, form in _FORMS.items()}
_RANGE: Final = {vr: re.compile(rf"({form})?\s*-\s*({form})?", re.ASCII) for vr, form in _FORMS.items()}
_FULL: Final = {
    "DA": re.compile(r"\d{8}", re.ASCII),
    "TM": re.compile(r"\d{6}\.\d{6}", re.ASCII),
    "DT": re.compile(r"\d{14}\.\d{6}", re.ASCII),
}

_MOMENT: Final = re.compile(r"(\d{4,14}(?:\.\d{1,6})?)([+-]\d{4})?", re.ASCII)
_FIRST_OF_DATE_TIME: Final = "00000101000000.000000"
_LAST_OF_DATE_TIME: Final = "99991231235959.999999"
_DAY_ENDS: Final = 8
_DIGITS: Final = "%Y%m%d%H%M%S.%f"
_LAST_OF_TIME: Final = "235959.999999"

RANGED: Final = frozenset(_FORMS)
"""Value Representations that a key may give a range of."""


def is_single(vr: str, value: str) -> bool:
    """Whether a text is one date (DA), time (TM) or date-time (DT)."""
    return _SINGLE[vr].fullmatch(value) is not None


def zoned(vr: str, value: str, offset: str) -> str:
    """Return a value with the offset from UTC that holds where it has none of its own (PS3.3 C.12.1.1.8)."""
    found = _MOMENT.fullmatch(value) if vr == "DT" else None
    return value + offset if found is not None and found[2] is None else value


def is_complete(vr: str, value: str) -> bool:
    """Whether a value in normal form is a date, time or date-time, and no malformed one."""
    return _FULL[vr].fullmatch(value) is not None


def ends_of(vr: str, value: str) -> tuple[str, str] | None:
    """Return the ends of a range of dates, times or date-times as they were written; None if it is none.

    An end that is open is empty. What may be one date-time with an offset is no range.
    """
    found = None if is_single(vr, value) else _RANGE[vr].fullmatch(value)
    return None if found is None else (found[1] or "", found[2] or "")


def last_of(vr: str, value: str) -> str:
    """Return the last moment of a time or date-time that leaves out its smaller parts.

    A range to 11:00 ends with the last moment of that minute, as its counterpart in words does.
    """
    match vr:
        case "TM":
            digits = value.replace(":", "")
            return digits + _LAST_OF_TIME[len(digits) :]
        case "DT":
            return moment(value, last=True) or value
    return value


def moment(value: str, *, last: bool = False) -> str | None:
    """Return a date-time with all its digits, of what it leaves out the first or the last there may be.

    One with an offset from UTC is turned to UTC; one without is left as it is. None for what is neither.
    """
    found = _MOMENT.fullmatch(value)
    if found is None or not is_single("DT", value):
        return None
    given, offset = found[1], found[2]
    digits = given + (_LAST_OF_DATE_TIME if last else _FIRST_OF_DATE_TIME)[len(given) :]
    try:
        if last and len(given) < _DAY_ENDS:
            days = monthrange(int(digits[:4]), int(digits[4:6]))[1]
            digits = f"{digits[:6]}{days}{digits[8:]}"
        return digits if offset is None else _in_utc(digits, offset)
    except (ValueError, OverflowError):
        return digits


def _in_utc(digits: str, offset: str) -> str:
    local = datetime.strptime(f"{digits}{offset}", f"{_DIGITS}%z")
    utc = local.astimezone(UTC)
    return f"{utc.year:04}{utc:{_DIGITS[2:]}}"
