"""What balancers ask of one another when the store cannot tell who leads: promises for a lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from balancer.leadership.known import Known, Links


@dataclass(frozen=True, slots=True)
class Wish:
    """What a balancer asks of the others: not to take the address for `lease_s` from now."""

    name: str
    lease_s: float
    holds: bool
    """Whether it has the address, and wants to keep it."""
    known: Known

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; the name is told by the link."""
        return {"lease_s": self.lease_s, "holds": self.holds, "known": self.known.to_json()}

    @classmethod
    def from_json(cls, name: str, found: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave, of the balancer that sent it.

        Raises
        ------
        ValueError
        """
        try:
            return cls(name, float(found["lease_s"]), found["holds"] is True, Known.from_json(found["known"]))
        except (TypeError, KeyError) as error:
            raise ValueError(f"expected what is to be promised: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Reply:
    """What another says to that."""

    promised: bool
    why: str = ""
    """Why not."""
    known: Known | None = None
    """A later list than the one that came with the wish."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        known = None if self.known is None else self.known.to_json()
        return {"promised": self.promised, "why": self.why, "known": known}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave.

        Raises
        ------
        ValueError
        """
        known = found.get("known")
        why = str(found.get("why", ""))
        return cls(found.get("promised") is True, why, None if known is None else Known.from_json(known))


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised."""

    to: str
    until: float


@dataclass(frozen=True, slots=True)
class Round:
    """One asking of all others."""

    wish: Wish
    asked: Links
    began: float
    """Before the first was asked."""
