"""What `atria delete` and `atria undelete` have in common: they show, ask, decide, and tell."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import typer

from deploy.command import selecting
from deploy.command.console import console
from deploy.command.run import run
from deploy.command.selecting import SHOWN, number
from deploy.command.who import account
from deploy.errors import UserError

if TYPE_CHECKING:
    from cluster.nouns import Fact, FactKind
    from cluster.settings import Settings
    from storage_node.upkeep.deciding import Decided, Part
    from storage_node.upkeep.selecting import Selection


@dataclass(slots=True)
class Survey:
    """What a decision would change."""

    selected: selecting.Selected
    first: list[Part] = field(default_factory=list)
    """As many of the studies as are shown."""
    studies: int = 0
    series: int = 0
    instances: int = 0
    size_bytes: int = 0
    kept: int = 0
    """Instances that are under retention."""
    retained: dict[Fact, None] = field(default_factory=dict)
    """By what they are: as many as are shown."""
    purged: int = 0

    def add(self, part: Part) -> None:
        """Count what is concerned of one study."""
        if part.instances and len(self.first) < SHOWN:
            self.first.append(part)
        self.studies += bool(part.instances)
        self.series += part.series
        self.instances += part.instances
        self.size_bytes += part.size_bytes
        self.kept += part.kept
        for fact in part.retained[: SHOWN - len(self.retained)]:
            self.retained[fact] = None
        self.purged += part.purged


def decide(
    settings: Settings,
    of: Selection,
    kind: FactKind,
    *,
    reason: str,
    yes: bool,
    as_json: bool,
    skip_retained: bool = False,
) -> None:
    """Show what is concerned, ask, decide, and say what came of it.

    The exit code is 1 where not all was decided, or something that was named stands for nothing.

    Raises
    ------
    UserError
        It concerns nothing, or what is under retention, or no catalogue answers.
    """
    found = run(_survey(settings, of, kind))
    unknown = _unknown(found, kind)
    _refuse(found, unknown, kind, skip_retained=skip_retained)
    for line in unknown:
        typer.echo(f"atria: {line}", err=True)
    if found.first and not as_json:
        _show(found)
    if not yes and not typer.confirm(_question(found, kind), err=True):
        raise typer.Exit(1)
    decided = run(_decide(settings, found, kind, reason=reason))
    if as_json:
        print(json.dumps(_to_json(found, decided)))
    else:
        _tell(found, decided, kind)
    if decided.refused or decided.gone or unknown:
        raise typer.Exit(1)


def _refuse(found: Survey, unknown: list[str], kind: FactKind, *, skip_retained: bool) -> None:
    """Refuse what must not be done, or where there is nothing to do.

    Raises
    ------
    UserError
    """
    if found.kept and not skip_retained:
        raise UserError(
            f"{_retained(found)}: nothing was {kind.value}; --skip-retained passes over what is retained"
        )
    if not (found.instances or found.purged):
        raise UserError("; ".join(unknown) or f"{_retained(found)}: there is nothing else to be {kind.value}")


def _question(found: Survey, kind: FactKind) -> str:
    concerned = (
        f"{number(found.instances, 'instance')} of {number(found.studies, 'study')}"
        f" ({selecting.size(found.size_bytes)})"
    )
    if found.purged:
        concerned += f", and what is left of {number(found.purged, 'instance')} that were purged,"
    return f"{concerned} will be {kind.value}. Go on?"


def _tell(found: Survey, decided: Decided, kind: FactKind) -> None:
    out = console()
    of_all = number(found.instances + found.purged, "instance")
    verb = "is" if decided.decided == 1 else "are"
    out.print(f"{decided.decided} of {of_all} {verb} {kind.value}.")
    if found.kept:
        out.print(f"{_retained(found)}: passed over.", markup=False)
    if decided.gone:
        out.print(
            f"{number(decided.gone, 'instance')} cannot be {kind.value}: purged, and no bytes are left. What"
            " is sent again comes back.",
            style="red",
        )
    for why in decided.refused:
        out.print(f"Not decided: {why}", style="red", markup=False)


def _unknown(found: Survey, kind: FactKind) -> list[str]:
    """Return what of the selection is passed over, a line each."""
    lines = []
    if found.selected.nothing:
        lines.append(f"nothing is known of {', '.join(found.selected.nothing)}")
    if not (found.instances or found.purged or found.kept or lines):
        lines.append(f"nothing of it can be {kind.value}: all of it is so already")
    return lines


def _retained(found: Survey) -> str:
    """Say what is under retention, until when, and by whom."""
    from storage_node.upkeep.retention import until

    by = [
        f"{_subject(fact)} until {until(fact)} by {fact.decided_by} ({fact.reason})"
        for fact in found.retained
    ]
    more = ", …" if len(found.retained) == SHOWN else ""
    return f"{number(found.kept, 'instance')} under retention: {', '.join(by)}{more}"


def _subject(fact: Fact) -> str:
    of = fact.instance
    uid = of.sop_instance_uid or of.series_instance_uid or of.study_instance_uid
    return f"{of.level.value.lower()} {uid}"


def _show(found: Survey) -> None:
    shown = selecting.table("series", "instances", "size")
    for part in found.first:
        counted = (str(part.series), str(part.instances), selecting.size(part.size_bytes))
        shown.add_row(*selecting.told_by(part.described, part.study_instance_uid), *counted)
    console().print(shown)
    if more := found.studies - len(found.first):
        left = found.instances - sum(part.instances for part in found.first)
        console().print(f"and {more} more, with {number(left, 'instance')}")


def _to_json(found: Survey, decided: Decided) -> dict[str, object]:
    return {
        "decided": decided.decided,
        "of": found.instances,
        "studies": found.studies,
        "size_bytes": found.size_bytes,
        "refused": list(decided.refused),
        "nothing_of": found.selected.nothing,
        "retained": found.kept,
        "purged": found.purged,
        "gone": decided.gone,
        "first": [
            {
                "study_instance_uid": part.study_instance_uid,
                **asdict(part.described),
                "series": part.series,
                "instances": part.instances,
                "size_bytes": part.size_bytes,
            }
            for part in found.first
        ],
    }


async def _survey(settings: Settings, of: Selection, kind: FactKind) -> Survey:
    from storage_node.upkeep.deciding import survey

    async with selecting.grid_of(settings) as grid:
        found = Survey(await selecting.select(grid, of))
        async for part in survey(grid, found.selected.targets, kind):
            found.add(part)
        return found


async def _decide(settings: Settings, found: Survey, kind: FactKind, *, reason: str) -> Decided:
    from deploy.command.progress import bar
    from storage_node.upkeep.deciding import decide

    async with selecting.grid_of(settings) as grid:
        with bar(kind.value) as progress:
            return await decide(
                grid,
                found.selected.targets,
                kind,
                by=account(),
                reason=reason,
                expected=found.instances + found.purged,
                progress=progress,
            )
