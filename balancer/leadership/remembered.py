"""What a balancer remembers across its own end: the list of balancers, and how long promises lasted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import structlog

from balancer.leadership.interfaces import Notebook
from balancer.leadership.known import Known
from cluster.durable import replace_durably

log = structlog.get_logger()


class FileNotebook:
    """A `Notebook` in a file, which is replaced whole.

    Parameters
    ----------
    file : Path
        The folder above it is made when it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        """See `Notebook.read`. A file that cannot be read is as good as lost."""
        try:
            return self._file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, text: str) -> None:
        """See `Notebook.write`."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(self._file, text)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the notebook says."""

    known: Known | None = None
    lease_s: float = 0.0
    """How long promises lasted when it was written."""


def recall(notebook: Notebook) -> Remembered:
    """Return what the notebook says; what it does not say, or says in words we do not know, is unknown."""
    text = notebook.read()
    if text is None:
        return Remembered()
    try:
        found = json.loads(text)
        return Remembered(Known.from_json(found), float(found["lease_s"]))
    except (ValueError, TypeError, KeyError) as error:
        log.warning("leadership.notebook_unreadable", error=str(error))
        return Remembered()


def remember(notebook: Notebook, known: Known, lease_s: float) -> None:
    """Write it down.

    Raises
    ------
    OSError
    """
    notebook.write(json.dumps({**known.to_json(), "lease_s": lease_s}, indent=1))
