"""What happened to a cluster, in one row: what was done to it, what was seen of it, what its logs say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Note = Callable[[str], None]
"""Takes what has happened just now."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
_NOISE: Final = ("apply request took too long", "[core] grpc: Server.processUnaryRPC failed")
"""What etcd says of each single request that was slow, or that somebody did not wait for."""
_STAMP: Final = re.compile(rf"^{_TIME.pattern}(?: [A-Z]+)?(?: \[\d+\])? +")
"""What PostgreSQL puts before each line."""
_LINE_CHARACTERS: Final = 400
_OURS: Final = frozenset({"timestamp", "process", "level", "event"})
_ROUTINE: Final = "association."
"""Events of single associations, of which there are too many to read; not those that went wrong."""
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened."""

    at: datetime
    where: str
    """A host, or a unit of it (`s1 etcd`)."""
    what: str

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S.%f}"[:-3] + f"  {self.where:<22} {self.what}"


class Journal:
    """What is done to a cluster, and seen of it from outside; any thread may note it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def of(self, where: str) -> Note:
        """Return what notes things that happen somewhere."""
        return lambda what: self.entries.append(Entry(datetime.now(UTC), where, what))


def told(entries: Iterable[Entry], logs: Path, since: datetime | None = None) -> list[str]:
    """Return what happened, a line each, in its order.

    Parameters
    ----------
    entries : iterable of Entry
    logs : Path
        A folder for each host, with a file for each unit.
    since : datetime, optional
        Without it, from the beginning.
    """
    files = sorted(logs.glob("*/*.log"))
    found = [*entries, *(entry for file in files for entry in read(file))]
    found.sort(key=lambda entry: entry.at)
    return [str(entry) for entry in found if since is None or entry.at >= since]


def short(unit: str) -> str:
    """Return a unit's name without what all have in theirs."""
    return unit.removesuffix(".service").removeprefix("atria-")


def read(log: Path) -> Iterator[Entry]:
    """Yield what a unit's log says, without what is routine. A line without a time goes with that before."""
    where = f"{log.parent.name} {short(log.stem)}"
    at = _BEFORE_ALL
    said: list[tuple[datetime, str]] = []
    for line in log.read_text("utf-8", "replace").splitlines():
        at = _time(line) or at
        if what := _worded(line)[:_LINE_CHARACTERS]:
            said.append((at, what))
    for what, same in groupby(said, key=itemgetter(1)):
        (first, _), *others = same
        yield Entry(first, where, f"{what} ({len(others) + 1} times)" if others else what)


def _time(line: str) -> datetime | None:
    """Return when a line was written, as Atria, etcd and PostgreSQL say it: in UTC, or with an offset."""
    found = _TIME.search(line)
    if found is None:
        return None
    at = datetime.fromisoformat(found[0])
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _worded(line: str) -> str:
    """Return a line as it is to be read; nothing if it is routine."""
    if any(noise in line for noise in _NOISE):
        return ""
    try:
        fields = json.loads(line)
    except ValueError:
        return _STAMP.sub("", line.rstrip())
    match fields:
        case {"event": event, "level": level}:
            if str(event).startswith(_ROUTINE) and level == "info":
                return ""
            return _event(str(event), str(level), fields)
        case {"msg": message, "level": level}:  # etcd: the rest tells peers and endpoints by number
            error = f": {fields['error']}" if "error" in fields else ""
            return f"{_loud(str(level))}{message}{error}"
        case _:
            return line.rstrip()


def _event(event: str, level: str, fields: dict[str, Any]) -> str:
    rest = " ".join(f"{key}={value}" for key, value in fields.items() if key not in _OURS)
    return f"{_loud(level)}{event} {rest}".rstrip()


def _loud(level: str) -> str:
    return "" if level == "info" else f"{level.upper()} "
