from __future__ import annotations

from dataclasses import dataclass

from cluster.coordination.registry import Load, Share
from storage_node.load import load_of


@dataclass(frozen=True)
class Relayed:
    id: str
    calling_ae: str
    source: str


def test_without_associations_there_is_no_load() -> None:
    assert load_of([]) == Load()


def test_associations_are_counted_by_balancer_calling_ae_and_address() -> None:
    associations = [
        Relayed("b2-0a", "CT", "192.0.2.7:1"),
        Relayed("site-1-balancer-0b", "CT", "192.0.2.7:2"),
        Relayed("b2-0c", "CT", "192.0.2.7:3"),
        Relayed("b2-0d", "CT", "[2001:db8::7]:4"),
        Relayed("b2-0e", "MR", "192.0.2.7:5"),
        Relayed("0f", "CT", "192.0.2.7:6"),
    ]
    expected = Load(
        6,
        (
            Share("", "CT", "192.0.2.7", 1),
            Share("b2", "CT", "192.0.2.7", 2),
            Share("b2", "CT", "2001:db8::7", 1),
            Share("b2", "MR", "192.0.2.7", 1),
            Share("site-1-balancer", "CT", "192.0.2.7", 1),
        ),
    )
    assert load_of(associations) == expected
    assert load_of(reversed(associations)) == expected, "the order does not matter"
