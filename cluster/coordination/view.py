"""What is made of the announcements that were found: pure, the same for every registry."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.coordination.registry import Kind, Member


def visible(announced: Iterable[Member], kind: Kind | None = None) -> list[Member]:
    """Return the members to show: of each kind and name the newest, ordered by kind and name."""
    newest: dict[tuple[str, str], Member] = {}
    for member in announced:
        key = (member.kind, member.name)
        if kind in (None, member.kind) and (key not in newest or newest[key].started_at <= member.started_at):
            newest[key] = member
    return [newest[key] for key in sorted(newest)]


def bridged(shown: Iterable[Member], found: Iterable[Member], *, keep: bool) -> list[Member]:
    """Return the members to show after what was shown before.

    Parameters
    ----------
    shown : iterable of Member
        What was shown last.
    found : iterable of Member
        What the registry has now.
    keep : bool
        Whether those that it does not have are still taken to be there: it was away, and they may not have
        had the time to enter themselves anew.
    """
    found = list(found)
    known = {(member.kind, member.name) for member in found}
    missing = [member for member in shown if (member.kind, member.name) not in known] if keep else []
    return visible([*found, *missing])


def same_process(before: Member, after: Member) -> None:
    """Check that an announcement goes on to speak of the process it was made for.

    Raises
    ------
    ValueError
        Kind or name differ.
    """
    if (before.kind, before.name) != (after.kind, after.name):
        raise ValueError(f"announced as {before.kind} {before.name}, cannot become {after.kind} {after.name}")
