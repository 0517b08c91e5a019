"""The balancers that may ever take the address: the cluster's list, as one of them knows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from cluster.coordination.protocol import Entry, Revision
from cluster.coordination.registry import Address

KEY: Final = "balancers"
"""Where the cluster's store keeps the list."""

Links = Mapping[str, Address | None]
"""Where each balancer is asked, by name; None for one that has no link."""


@dataclass(frozen=True, slots=True)
class Known:
    """The list as it was at a revision.

    Only a leader adds to it, during its term. It writes down what it adds before it asks the store, and
    counts it from then on: `pending` are those of which it does not know yet whether they are in.
    """

    links: Links
    revision: Revision
    """Of the store, when the list was written."""
    pending: Links = field(default_factory=dict)

    @property
    def everyone(self) -> Links:
        """All that may be in the list, now or in a moment."""
        return {**self.links, **self.pending}

    def others(self, name: str) -> Links:
        """All of them but one."""
        return {other: link for other, link in self.everyone.items() if other != name}

    def adding(self, links: Links) -> Known:
        """Return the same with some that are about to be added, or to get another link."""
        return Known(self.links, self.revision, {**self.pending, **links})

    @classmethod
    def of_entry(cls, entry: Entry) -> Self:
        """Return the list that the store holds.

        Raises
        ------
        ValueError
            It is no list of balancers.
        """
        return cls(decode_links(json.loads(entry.value)), entry.changed)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "balancers": encode_links(self.links),
            "revision": self.revision,
            "pending": encode_links(self.pending),
        }

    @classmethod
    def from_json(cls, found: Any) -> Self:
        """Return what `to_json` gave.

        Raises
        ------
        ValueError
        """
        try:
            return cls(
                decode_links(found["balancers"]), int(found["revision"]), decode_links(found["pending"])
            )
        except (TypeError, KeyError) as error:
            raise ValueError(f"expected a list of balancers with its revision: {error!r}") from error


def encode_links(links: Links) -> dict[str, str | None]:
    """Return names and links as JSON values."""
    return {name: None if link is None else str(link) for name, link in sorted(links.items())}


def decode_links(found: Any) -> dict[str, Address | None]:
    """Return names and links from JSON values.

    Raises
    ------
    ValueError
    """
    if not isinstance(found, dict):
        raise ValueError(f"expected names with links, found {found!r}")  # noqa: TRY004  the data is wrong
    return {str(name): None if link is None else _address(link) for name, link in found.items()}


def _address(text: Any) -> Address:
    host, _, port = str(text).rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"expected HOST:PORT, found {text!r}")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))
