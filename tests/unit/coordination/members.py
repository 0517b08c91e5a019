"""Processes to announce."""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.coordination.registry import Address, Load, Member


def worker(name: str, *, associations: int = 0, version: str = "0") -> Member:
    return Member(
        kind="worker",
        name=name,
        http=Address("127.0.0.1", 1),
        pid=1,
        version=version,
        started_at=datetime(2024, 1, 1, tzinfo=UTC),
        load=Load(associations),
    )


def names(members: list[Member]) -> list[str]:
    return [member.name for member in members]
