"""What a catalogue's change feed says, and the cursors by which it is read.

A feed is the sequence in which versions and facts came to one site. Another site's is another sequence, and
so is that of a catalogue that was made anew: a cursor names the feed that it is of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

from cluster.nouns import Fact, Instance, Provenance

Place: TypeAlias = tuple[int, ...]
"""Where a change is in its feed; places are ordered as the changes are."""

_PLACE_LIMIT: Final = 2**63
"""What no number of a place reaches: databases have no greater integers."""


@dataclass(frozen=True, slots=True)
class Added:
    """A version that came to the site, in what its row says by now."""

    instance: Instance
    digest: str
    sop_class_uid: str
    transfer_syntax_uid: str
    size_bytes: int
    order: int
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a feed."""

    cursor: str
    """After which the feed goes on. It is opaque: only the catalogue that it is from can read it."""
    what: Added | Fact

    @property
    def instance(self) -> Instance:
        """The instance of the version, or the subject of the fact."""
        return self.what.instance

    @property
    def digest(self) -> str:
        """Of the version, or of the fact."""
        return self.what.digest

    @property
    def fact(self) -> Fact | None:
        """What was decided; None if it is a version that came."""
        return self.what if isinstance(self.what, Fact) else None


def cursor_of(feed_id: str, place: Place) -> str:
    """Return the cursor after a place in a feed."""
    return ".".join((feed_id, *map(str, place)))


def place_of(cursor: str | None, feed_id: str, *, begin: Place, end: Place) -> Place:
    """Return the place after which a feed is to be read.

    Parameters
    ----------
    cursor : str or None
        None is from the beginning; so is what is no cursor, is of another feed, or leads past the end, as it
        does where the database was brought back to what it was before.
    feed_id : str
        The feed that is read.
    begin, end : tuple of int
        A place before the first change there can be, and one that no change is behind.
    """
    named, *numbers = (cursor or "").split(".")
    if named != feed_id or len(numbers) != len(begin):
        return begin
    if not all(re.fullmatch("[0-9]{1,19}", number, re.ASCII) for number in numbers):
        return begin
    place = tuple(map(int, numbers))
    return place if max(place) < _PLACE_LIMIT and place <= end else begin


def merged(
    feed_id: str,
    added: Iterable[tuple[Place, Added]],
    decided: Iterable[tuple[Place, Fact]],
    limit: int,
) -> Sequence[Change]:
    """Return the first changes of what was read of both kinds."""
    changes: list[tuple[Place, Added | Fact]] = sorted((*added, *decided), key=itemgetter(0))
    return [Change(cursor_of(feed_id, place), what) for place, what in changes[:limit]]
