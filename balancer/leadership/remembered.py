"""What a balancer remembers across its own end: the list of balancers, and how long promises lasted."""

from __future__ import annotations

import json
from dataclasses import dataclass

import structlog

from balancer.leadership.interfaces import Notebook
from balancer.leadership.known import Known

log = structlog.get_logger()


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
