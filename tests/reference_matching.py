"""What matches what, written from PS3.4 C.2.2.2 in the plainest way: the judge of what catalogues find.

It shares nothing with them. An entity and an Identifier are dictionaries by keyword: of texts as they are
decoded, of numbers, and of lists of such dictionaries for sequences.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from pydicom.datadict import dictionary_VM, dictionary_VR

Values: TypeAlias = Mapping[str, Any]

_WILD = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
_ONE_VALUE = ("LT", "ST", "UR", "UT")
_MULTIPLE = ("AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC")
_TIME_OF = {
    "StudyDate": "StudyTime",
    "ContentDate": "ContentTime",
    "PerformedProcedureStepStartDate": "PerformedProcedureStepStartTime",
}


def is_match(identifier: Values, stored: Values, agreed: Collection[str] = ()) -> bool:
    """Whether all keys of an Identifier match an entity."""
    keys = dict(identifier)
    if "combined_date_time" in agreed:
        for date, time in _TIME_OF.items():
            if _is_pair(keys.get(date, ""), keys.get(time, "")):
                first, last = zip(*map(_ends, (keys.pop(date), keys.pop(time))), strict=True)
                if not _is_between(first, last, stored.get(date, ""), stored.get(time, "")):
                    return False
    return all(_fits(keyword, key, stored.get(keyword), agreed) for keyword, key in keys.items())


def is_refused(identifier: Values, agreed: Collection[str] = ()) -> bool:
    """Whether a date, a time or a range of these in an Identifier is malformed, or reversed."""
    pairs = [
        (date, time)
        for date, time in _TIME_OF.items()
        if "combined_date_time" in agreed and _is_pair(identifier.get(date, ""), identifier.get(time, ""))
    ]
    for date, time in pairs:
        first, last = zip(_ends(identifier[date]), _ends(identifier[time]), strict=True)
        if all(first + last) and _begin(*first) > _end(*last):
            return True
    paired = {name for pair in pairs for name in pair}
    return any(
        _is_malformed(dictionary_VR(keyword), key)
        for keyword, key in identifier.items()
        if dictionary_VR(keyword) in ("DA", "TM", "DT") and keyword not in paired
        if key.strip(" *") and not (key == '""' and "empty_values" in agreed)
    )


def _is_malformed(vr: str, key: str) -> bool:
    if not _is_range(vr, key):
        return not all(_is_one(vr, value) for value in key.split("\\"))
    if vr == "DT":
        return False
    first, last = _ends(key)
    ends = [end for end in (first, last) if end]
    return not all(_is_one(vr, end) for end in ends) or (
        len(ends) == 2 and _normal(vr, first) > _last(vr, last)
    )


def _fits(keyword: str, key: Any, stored: Any, agreed: Collection[str]) -> bool:
    vr = dictionary_VR(keyword)[:2]
    if vr == "SQ":
        return _fits_an_item(key, stored or [], agreed)
    if isinstance(key, int):
        return bool(key == stored)
    if not key.strip(" *") or (vr in ("DA", "TM", "DT") and key.strip() == "-"):
        return True  # C.2.2.2.3
    held = [value for value in _split(vr, stored or "") if _normal(vr, value)]
    if key == '""' and "empty_values" in agreed:
        return not held  # C.2.2.2.7
    if vr in ("DA", "TM", "DT") and _is_range(vr, key):
        return any(_is_in_range(vr, key, value) for value in held)  # C.2.2.2.5
    wanted = [value for value in _split(vr, key) if _normal(vr, value)]
    is_wild = vr in _WILD and re.search(r"[*?]", key) is not None
    if not wanted or any(set(value.strip()) == {"*"} for value in wanted):
        return True
    if vr == "PN" and "fuzzy_names" in agreed and len(wanted) == 1 and not is_wild and _words(key):
        return any(_is_alike(wanted[0], value) for value in held)
    if "multiple_values" in agreed and vr in _MULTIPLE and dictionary_VM(keyword) != "1" and not is_wild:
        return all(any(_is_same(vr, one, value) for value in held) for one in wanted)  # C.2.2.2.8
    return any(_is_same(vr, one, value) for one in wanted for value in held)


def _fits_an_item(key: list[Values], stored: list[Values], agreed: Collection[str]) -> bool:
    """C.2.2.2.6."""
    if not key or all(_asks_nothing(value) for value in key[0].values()):
        return True
    return any(is_match(key[0], item, agreed) for item in stored)


def _asks_nothing(value: Any) -> bool:
    if isinstance(value, list):
        return all(_asks_nothing(nested) for item in value for nested in item.values())
    return isinstance(value, str) and not value.strip(" *")


def _split(vr: str, value: Any) -> list[str]:
    return [str(value)] if vr in _ONE_VALUE else str(value).split("\\")


def _is_same(vr: str, key: str, value: str) -> bool:
    """C.2.2.2.1, C.2.2.2.2 and C.2.2.2.4."""
    if vr == "PN":
        groups = [_name(group) for group in value.split("=")]
        wanted = [_name(group) for group in key.split("=")]
        if "=" not in key.rstrip("^= "):
            return any(_is_like_name(wanted[0], group) for group in groups if group)
        return all(
            bool(groups[n : n + 1] and groups[n]) and _is_like_name(group, groups[n])
            for n, group in enumerate(wanted)
            if group.strip("*")
        )
    key, value = _normal(vr, key), _normal(vr, value)
    return _is_like(key, value) if vr in _WILD else key == value


def _is_like_name(key: str, group: str) -> bool:
    while not _is_like(key, group):
        if not key.endswith("^*"):
            return False
        key = key[:-2]
    return True


def _is_like(key: str, value: str) -> bool:
    """Dynamic programming over both, a character at a time."""
    reached = {0}
    for c in key:
        if c == "*":
            reached = set(range(min(reached), len(value) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(value) and c in ("?", value[at])}
    return len(value) in reached


def _is_alike(key: str, name: str) -> bool:
    """Each word of the key begins a word of the name, or is within an edit of one, from four characters."""
    held = _words(name)
    return all(
        any(word.startswith(one) or (len(one) >= 4 and _distance(one, word) <= 1) for word in held)
        for one in _words(key)
    )


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^\w]+", _name(name)) if word]


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for n, a in enumerate(one, 1):
        last, row[0] = row[0], n
        for m, b in enumerate(other, 1):
            last, row[m] = row[m], min(last + (a != b), row[m] + 1, row[m - 1] + 1)
    return row[-1]


def _name(name: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not "\u0300" <= c <= "\u036f")
    components = [c.strip() for c in unicodedata.normalize("NFC", plain).casefold().split("^")]
    return "^".join(components).rstrip("^")


def _normal(vr: str, value: str) -> str:
    value = value.strip(" \0")
    match vr:
        case "PN":
            return "=".join(map(_name, value.split("="))).rstrip("=")
        case "IS" | "DS":
            try:
                return str(Decimal(value).normalize() + 0)
            except InvalidOperation:
                return value
        case "DA":
            return value.replace(".", "")
        case "TM":
            return _padded(value.replace(":", ""), "000000.000000") if _is_one("TM", value) else value
        case "DT":
            return str(_moment(value)) if _is_one("DT", value) else value
    return value


def _is_one(vr: str, value: str) -> bool:
    form = {
        "DA": r"[0-9]{8}|[0-9]{4}\.[0-9]{2}\.[0-9]{2}",
        "TM": r"([0-9]{2}){1,2}|[0-9]{6}(\.[0-9]{1,6})?|[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?",
        "DT": r"[0-9]{4}([0-9]{2}){0,4}([+-](0[0-9]|1[0-4])[0-5][0-9])?"
        r"|[0-9]{14}(\.[0-9]{1,6})?([+-](0[0-9]|1[0-4])[0-5][0-9])?",
    }[vr]
    return re.fullmatch(form, value.strip()) is not None


def _is_range(vr: str, key: str) -> bool:
    return "-" in key and not _is_one(vr, key)


def _ends(key: str) -> tuple[str, str]:
    first, _, last = key.partition("-")
    return first.strip(), last.strip()


def _ends_of_moments(key: str) -> tuple[str, str]:
    for at in (n for n, c in enumerate(key) if c == "-"):
        ends = key[:at].strip(), key[at + 1 :].strip()
        if all(not end or _is_one("DT", end) for end in ends):
            return ends
    raise AssertionError(key)


def _is_in_range(vr: str, key: str, value: str) -> bool:
    if not _is_one(vr, value):
        return False
    first, last = _ends_of_moments(key) if vr == "DT" else _ends(key)
    if vr == "DT":
        at = _moment(value)
        return (not first or _moment(first) <= at) and (not last or at <= _moment(last, "9"))
    return (not first or _normal(vr, first) <= _normal(vr, value)) and (
        not last or _normal(vr, value) <= _last(vr, last)
    )


def _last(vr: str, value: str) -> str:
    return _padded(value.replace(":", ""), "235959.999999") if vr == "TM" else _normal(vr, value)


def _is_pair(date: str, time: str) -> bool:
    """Whether a date and a time have the same form of range, as C.2.2.2.5 has it."""
    if not (_is_range("DA", date) and _is_range("TM", time)):
        return False
    return [bool(end) for end in _ends(date)] == [bool(end) for end in _ends(time)]


def _is_between(first: tuple[str, ...], last: tuple[str, ...], dates: str, times: str) -> bool:
    of_day = [time for time in times.split("\\") if _is_one("TM", time)] or ["00"]
    moments = [_begin(date, time) for date in dates.split("\\") if _is_one("DA", date) for time in of_day]
    return any(
        (not all(first) or _begin(*first) <= at) and (not all(last) or at <= _end(*last)) for at in moments
    )


def _begin(date: str, time: str) -> str:
    return _normal("DA", date) + _normal("TM", time)


def _end(date: str, time: str) -> str:
    return _normal("DA", date) + _last("TM", time)


def _padded(value: str, full: str) -> str:
    return value + full[len(value) :]


def _moment(value: str, fill: str = "0") -> datetime:
    """Return a date-time in UTC, or as it is without an offset; the first that is meant, or the last."""
    found = re.fullmatch(r"([0-9]+)(\.[0-9]+)?([+-][0-9]{4})?", value.strip())
    assert found is not None
    digits, fraction, offset = found[1], (found[2] or ".")[1:], found[3]
    fields = [int(digits[:4]), *(int(digits[n : n + 2]) for n in range(4, len(digits), 2))]
    year, month, day, hour, minute, second = fields + [1, 1, 0, 0, 0][len(fields) - 1 :]
    begin = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    begin += timedelta(microseconds=int(fraction.ljust(6, "0") or 0))
    if fill == "9":
        begin = _after(begin, len(fields), len(fraction)) - timedelta(microseconds=1)
    if offset:
        ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
        begin += ahead if offset[0] == "-" else -ahead
    return begin


def _after(begin: datetime, fields: int, fraction: int) -> datetime:
    match fields:
        case 1:
            return begin.replace(year=begin.year + 1)
        case 2:
            return (begin + timedelta(days=31)).replace(day=1)
        case 6:
            return begin + timedelta(microseconds=10 ** (6 - fraction))
        case _:
            return begin + {3: timedelta(days=1), 4: timedelta(hours=1), 5: timedelta(minutes=1)}[fields]
