"""What was sent and what came of it, written down as it happens: one JSON object a line.

An attempt is written twice: before its first byte is sent, and when it has ended. So one of which only the
first line is there was under way when the sender died, and may have happened: it is `unknown`.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from deploy.client.files import DicomFile


class Outcome(enum.StrEnum):
    """What the sender was told."""

    ACKNOWLEDGED = "acknowledged"
    """Success, or a warning: it is stored."""
    REFUSED = "refused"
    """A status of failure. It may be stored all the same: what is refused is not undone."""
    UNKNOWN = "unknown"
    """Nothing: the association ended, or the sender did."""


@dataclass(frozen=True, slots=True)
class Content:
    """One content of an instance, as it is sent or as it comes back."""

    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    """SHA-256 of the data set: the File Meta Information is not sent (PS3.10 7.1)."""
    size_bytes: int
    """Of the data set."""

    @classmethod
    def of(cls, file: DicomFile) -> Self:
        """Read a file.

        Raises
        ------
        OSError
        """
        digest, size_bytes = sha256(), 0
        for block in file.data_set():
            digest.update(block)
            size_bytes += len(block)
        return cls(file.sop_instance_uid, file.transfer_syntax_uid, digest.hexdigest(), size_bytes)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One C-STORE."""

    number: int
    content: Content
    sent_at: datetime
    outcome: Outcome = Outcome.UNKNOWN
    said: str = ""
    """What came with a refusal, or how the association ended."""
    ended_at: datetime | None = None


def _now() -> datetime:
    return datetime.now(UTC)


class History:
    """The file that attempts are written to; a context that closes it.

    Parameters
    ----------
    file : Path
        Gone on with, if it is there.
    now : callable
        The clock.

    Raises
    ------
    OSError
        It cannot be written.
    ValueError
        It holds something else.
    """

    def __init__(self, file: Path, now: Callable[[], datetime] = _now) -> None:
        self._attempts = len(read(file)) if file.exists() else 0
        if self._attempts:
            _drop_cut_short(file)
        self._lines = file.open("a", encoding="utf-8", buffering=1)
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sent(self, content: Content) -> int:
        """Note that an attempt begins, and return its number.

        Raises
        ------
        OSError
        """
        number = self._attempts
        self._attempts += 1
        self._write({"number": number, "content": asdict(content), "sent_at": self._now().isoformat()})
        return number

    def ended(self, number: int, outcome: Outcome, said: str = "") -> None:
        """Note what came of an attempt.

        Raises
        ------
        OSError
        """
        entry = {"number": number, "outcome": outcome.value, "said": said}
        self._write({**entry, "ended_at": self._now().isoformat()})

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._lines.write(json.dumps(entry) + "\n")


def read(file: Path) -> list[Attempt]:
    """Read all attempts, in the order in which they were sent. A last line that is cut short is left out.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It holds no history.
    """
    lines = file.read_text("utf-8").splitlines(keepends=True)
    try:
        return _merged(json.loads(line) for line in lines if line.endswith("\n"))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file}: no history: {error!r}") from error


def _merged(entries: Iterable[dict[str, Any]]) -> list[Attempt]:
    attempts: list[Attempt] = []
    for entry in entries:
        if "content" in entry:
            sent_at = datetime.fromisoformat(entry["sent_at"])
            attempts.append(Attempt(entry["number"], Content(**entry["content"]), sent_at))
        else:
            attempts[entry["number"]] = replace(
                attempts[entry["number"]],
                outcome=Outcome(entry["outcome"]),
                said=entry["said"],
                ended_at=datetime.fromisoformat(entry["ended_at"]),
            )
    return attempts


def _drop_cut_short(file: Path) -> None:
    with file.open("r+b") as lines:
        lines.truncate(lines.read().rfind(b"\n") + 1)
