"""What is believed of one site: events in, a state out; no I/O, no task, no clock.

Two circuits stand before a site. The first is for everything: a call that the site as a whole fails opens it,
and only a probe, which is one light request, closes it. The second is for writes: a site that is well by its
probe may be read-only, or full, and then it shows in the writes alone. A fault of one object says nothing of
the site (design, rule 6); several different objects in a row that cannot be written do.

                      call failed, probe failed
        UP, FILLING ─────────────────────────────► DOWN
             ▲  ▲                                   │
             │  └───────────────────────────────────┘
             │       as many good probes in a row as it has to prove itself by (1, as a rule)
             │
             │ no room, by a write or by the probe ► FULL      ─┐ a write succeeded, which is let through to
             │ several writes in a row failed ► READ_ONLY      ─┤ try, one at a time; and there is room again
             └──────────────────────────────────────────────────┘
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WRITE_FAULTS_LIMIT: Final = 4
"""Different objects in a row that could not be written, before nothing is written to a site any more."""
WRITE_TRIAL_INTERVAL_S: Final = 5.0
"""How long after that one write is let through, to try; and how long it has, before another is."""
ROOM_AGAIN: Final = 1.5
"""A full site is written to again when it has so many times the room below which it is full."""

_STEADY_PROBES: Final = 30
"""After so many good probes in a row, what was before is forgotten."""
_FORGIVEN: Final = 3
"""So many lapses in a row are forgiven after one good probe each; that it was unknown at first is one."""
_PROBES_LIMIT: Final = 8
"""A site has to prove itself by no more good probes in a row than this."""


class SiteState(enum.StrEnum):
    """What a site can be used for: the worst that holds of it."""

    UP = "up"
    """Everything."""
    FILLING = "filling"
    """Everything, but it has no vote: it has lost its state, and is being filled (design, rule 8)."""
    READ_ONLY = "read_only"
    """Reading: objects cannot be written there."""
    FULL = "full"
    """Reading: there is no room for more."""
    DOWN = "down"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """What is known of one site."""

    state: SiteState
    why: str
    """Why it is not up, or what it is short of; empty when it is well."""
    since: datetime
    """When it came to be in this state."""
    filling: bool = False
    """Whether it is being filled, whatever else it is."""

    @property
    def up(self) -> bool:
        """Whether it can be reached."""
        return self.state is not SiteState.DOWN

    @property
    def votes(self) -> bool:
        """Whether what it does not know counts as not being there (design, rule 8)."""
        return self.up and not self.filling

    @property
    def takes_writes(self) -> bool:
        """Whether objects can be written there."""
        return self.state in (SiteState.UP, SiteState.FILLING)

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "state": self.state.value,
            "up": self.up,
            "votes": self.votes,
            "takes_writes": self.takes_writes,
            "why": self.why,
            "since": self.since.isoformat(),
        }


class Trust:
    """How many good probes in a row it takes until something that lapsed is believed in again.

    A site whose probes are well and whose calls fail would else be tried anew after each probe, and cost its
    callers their time limit each time. The first lapses cost one probe each, those that follow soon twice as
    many as the one before.
    """

    def __init__(self) -> None:
        self._lapses = 0
        self._good = 0

    @property
    def holds(self) -> bool:
        """Whether it is believed in; it is at first."""
        return not self._lapses or self._good >= self._needed

    @property
    def _needed(self) -> int:
        return min(1 << max(self._lapses - _FORGIVEN, 0), _PROBES_LIMIT)

    def lapse(self) -> None:
        """Tell that it failed."""
        if self.holds:
            self._lapses += 1
        self._good = 0

    def prove(self) -> None:
        """Tell that a probe was good."""
        self._good += 1
        if self._good >= _STEADY_PROBES:
            self._lapses = 0


class Circuit:
    """What is believed of one site.

    Parameters
    ----------
    room_low_bytes : int
        With less room than this the site is full.
    filling : bool
        Whether it is being filled.
    """

    def __init__(self, *, room_low_bytes: int, filling: bool) -> None:
        self.filling = filling
        self._room_low_bytes = room_low_bytes
        self._trust = Trust()
        self._trust.lapse()
        self._quickness = Trust()
        self._why_down = "not probed yet"
        self._lacks_room = ""
        self._failures = 0
        self._unwritten: dict[str, str] = {}
        self._why_not_written = ""
        self._refused_for_room = False
        self._trial_at_s = 0.0

    @property
    def state(self) -> SiteState:
        """What the site can be used for."""
        if not self.is_up:
            return SiteState.DOWN
        if self._lacks_room or self._refused_for_room:
            return SiteState.FULL
        if self._why_not_written:
            return SiteState.READ_ONLY
        return SiteState.FILLING if self.filling else SiteState.UP

    @property
    def why(self) -> str:
        """Why it is not up, in words."""
        match self.state:
            case SiteState.DOWN:
                return self._why_down
            case SiteState.FILLING:
                return "it lost its state, and is being filled"
            case _:
                return self._lacks_room or self._why_not_written

    @property
    def is_up(self) -> bool:
        """Whether the site can be reached."""
        return self._trust.holds

    @property
    def is_quick(self) -> bool:
        """Whether reads need not be afraid of waiting for it."""
        return self._quickness.holds

    def was_slow(self) -> None:
        """Tell that another site had to be asked because this one took so long."""
        self._quickness.lapse()

    def failed(self, why: str) -> None:
        """Tell that the site as a whole failed a call or a probe."""
        self._failures += 1
        self._why_down = why
        self._trust.lapse()
        self._quickness.lapse()

    def probe_began(self) -> int:
        """Tell that a probe is on its way; what is returned goes with its success."""
        return self._failures

    def probed(self, began: int, *, quick: bool) -> None:
        """Tell that a probe found the site well. What failed since it began counts for more."""
        if began != self._failures:
            return
        self._trust.prove()
        if quick:
            self._quickness.prove()

    def has_room(self, free_bytes: int | None) -> None:
        """Tell how much room there is; None if the site does not say."""
        wanted_bytes = self._room_low_bytes * (ROOM_AGAIN if self._lacks_room else 1)
        if free_bytes is None or free_bytes >= wanted_bytes:
            self._lacks_room = ""
        else:
            self._lacks_room = (
                f"{free_bytes >> 20} MiB of room left, {int(wanted_bytes) >> 20} MiB wanted"
                " (free_space_low_bytes)"
            )

    def wrote(self) -> None:
        """Tell that something was written."""
        self._unwritten.clear()
        self._why_not_written = ""
        self._refused_for_room = False

    def not_written(self, key: str, why: str, at_s: float) -> None:
        """Tell that one object could not be written, though the site answers."""
        self._unwritten[key] = why
        if len(self._unwritten) >= WRITE_FAULTS_LIMIT:
            self._stop_writes(f"{len(self._unwritten)} objects in a row could not be written: {why}", at_s)
            del self._unwritten[next(iter(self._unwritten))]

    def no_room(self, why: str, at_s: float) -> None:
        """Tell that the site had no room for a write."""
        self._refused_for_room = True
        self._stop_writes(why, at_s)

    def _stop_writes(self, why: str, at_s: float) -> None:
        self._why_not_written = why
        self._trial_at_s = at_s + WRITE_TRIAL_INTERVAL_S

    def may_write(self, at_s: float) -> bool:
        """Return whether to write to the site; where writes fail, it is when it is time to try."""
        if not self.is_up or self._lacks_room:
            return False
        return not self._why_not_written or at_s >= self._trial_at_s

    def will_write(self, at_s: float) -> None:
        """Tell that somebody writes to the site now; where writes fail, nobody else tries for a while."""
        self._trial_at_s = at_s + WRITE_TRIAL_INTERVAL_S
