"""What can be found out about a catalogue without opening it: also of one that cannot be worked with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.nouns import SiteIdentity


@dataclass(frozen=True, slots=True)
class Examined:
    """What a database says of the catalogue in it, and of itself."""

    identity: SiteIdentity | None
    """Whose catalogue it is; None where there is none."""
    revision: str
    """Of its schema; empty where there is none."""
    known_revision: str
    """What the code is written for."""
    settings: Mapping[str, str]
    """The database's own settings that matter, by their names."""
    problems: tuple[str, ...]
    """What is wrong with the database, a line each."""
