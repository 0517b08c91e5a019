"""What is measured, beside what was asked for: medians over interleaved rounds, and a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

RATIO: Final = "times"
"""Unit of a ratio."""
Leg = Callable[[], float]
"""One contender's turn in a round: returns what it reached."""
Note = Callable[[str], None]
"""Told what is going on."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What was asked for."""

    value: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what was measured, once per round."""

    part: str
    name: str
    unit: str
    values: tuple[float, ...]
    bar: Bar | None = None
    note: str = ""
    """Why there is no value, or what else is worth knowing."""

    @property
    def median(self) -> float | None:
        """The middle of the rounds; None without any."""
        return statistics.median(self.values) if self.values else None

    @property
    def verdict(self) -> str:
        """`ok`, `short`, `not measured`, or nothing where no bar was set."""
        if self.median is None:
            return "not measured"
        if self.bar is None:
            return ""
        met = self.median >= self.bar.value if self.bar.at_least else self.median <= self.bar.value
        return "ok" if met else "short"

    def as_json(self) -> dict[str, object]:
        """Return it for a script."""
        return {
            "part": self.part,
            "name": self.name,
            "unit": self.unit,
            "bar": str(self.bar) if self.bar else None,
            "median": self.median,
            "values": list(self.values),
            "verdict": self.verdict,
            "note": self.note,
        }


def at(associations: int) -> str:
    """Return how a figure's name ends."""
    return f", {associations} association{'' if associations == 1 else 's'}"


def interleaved(
    legs: Mapping[str, Leg], rounds: int, note: Note, *, warm_up: bool = True
) -> dict[str, tuple[float, ...]]:
    """Let each have its turn, in each round, so that what else the machine does troubles all alike.

    A round before the first is not counted: files, caches and just-started processes warm up in it. Where
    a turn takes so long that this does not matter, it may be left out.
    """
    reached: dict[str, list[float]] = {name: [] for name in legs}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, leg in legs.items():
            note(f"{name} ({f'round {number} of {rounds}' if number else 'warming up'})")
            value = leg()
            if number:
                reached[name].append(value)
    return {name: tuple(values) for name, values in reached.items()}


def ratio(
    part: str,
    rates: Mapping[str, Sequence[float]],
    one: str,
    other: str,
    *,
    suffix: str = "",
    at_least: float | None = None,
) -> Figure:
    """Compare two contenders, round by round; the other may be missing, as it is not installed here."""
    bar = None if at_least is None else Bar(at_least, at_least=True)
    name = f"{one} ÷ {other}{suffix}"
    if other not in rates:
        return Figure(part, name, RATIO, (), bar, f"{other} is not installed")
    values = tuple(mine / theirs for mine, theirs in zip(rates[one], rates[other], strict=True))
    return Figure(part, name, RATIO, values, bar)


def table(figures: Sequence[Figure]) -> Table:
    """Lay the figures out for people."""
    from rich.table import Table

    rows = Table(title="make bench", title_justify="left")
    for heading in ("part", "figure", "asked", "median", "rounds", "", "note"):
        rows.add_column(heading, justify="right" if heading in {"asked", "median", "rounds"} else "left")
    styles = {"ok": "green", "short": "bold red", "not measured": "yellow", "": ""}
    last_part = ""
    for figure in figures:
        if last_part not in {"", figure.part}:
            rows.add_section()
        rows.add_row(
            figure.part if figure.part != last_part else "",
            figure.name,
            str(figure.bar or ""),
            "" if figure.median is None else f"{_digits(figure.median)} {figure.unit}",
            _spread(figure.values),
            f"[{styles[figure.verdict]}]{figure.verdict}[/]" if figure.verdict else "",
            figure.note,
        )
        last_part = figure.part
    return rows


def _spread(values: Sequence[float]) -> str:
    return f"{_digits(min(values))} … {_digits(max(values))}" if len(values) > 1 else ""


def _digits(value: float) -> str:
    """Show three digits of what is small, all of what is large."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
