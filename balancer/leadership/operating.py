"""What operators look at and decide: who is in the list of balancers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from balancer.leadership.known import KEY, Known, encode_links
from balancer.leadership.tenure import ELECTION
from cluster.coordination.member_json import decode
from cluster.coordination.protocol import Conflict, Coordination
from cluster.coordination.registry import Address

MEMBERS: Final = "members/balancer/"
"""Where balancers announce themselves."""


@dataclass(frozen=True, slots=True)
class Balancer:
    """One balancer, as the store knows it."""

    name: str
    link: Address | None
    is_listed: bool
    """Whether it may lead, and is counted on for its promise."""
    is_there: bool
    leads: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "link": None if self.link is None else str(self.link),
            "listed": self.is_listed,
            "there": self.is_there,
            "leads": self.leads,
        }


async def balancers(coordination: Coordination) -> list[Balancer]:
    """Return the balancers that are in the list, or there, by name.

    Raises
    ------
    CoordinationUnavailable
    ValueError
        What the store has is not what balancers write.
    """
    known = await _read_list(coordination)
    leader = (await coordination.read(ELECTION)).entries.get(ELECTION)
    members = [decode(entry.value) for entry in (await coordination.read(MEMBERS)).entries.values()]
    there = {member.name: member.link for member in members}
    listed = known.links if known is not None else {}
    return [
        Balancer(
            name,
            listed.get(name, there.get(name)),
            is_listed=name in listed,
            is_there=name in there,
            leads=leader is not None and leader.value == name.encode(),
        )
        for name in sorted({*listed, *there})
    ]


async def forget(coordination: Coordination, name: str) -> str | None:
    """Take a balancer out of the list, and return why not, or None.

    It is safe also while somebody leads: whoever still asks the one that is forgotten asks one too many, and
    who wins a term without being in the list does not take the address. But when the last in the list is
    forgotten the next one begins a list anew: who was the last, and comes back with its disk while it does
    not reach the store, finds itself alone in the list that it knows.

    Raises
    ------
    CoordinationUnavailable
    """
    if any(one.name == name and (one.leads or one.is_there) for one in await balancers(coordination)):
        return "it is running: end it first"
    known = await _read_list(coordination)
    if known is None or name not in known.links:
        return "it is not in the list of balancers"
    links = {other: link for other, link in known.links.items() if other != name}
    try:
        await coordination.put(KEY, json.dumps(encode_links(links)).encode(), expected=known.revision)
    except Conflict:
        return "the list was changed at the same moment: try again"
    return None


async def _read_list(coordination: Coordination) -> Known | None:
    entry = (await coordination.read(KEY)).entries.get(KEY)
    return None if entry is None else Known.of_entry(entry)
