"""A member as it is written down where others read it."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter

from cluster.coordination.registry import Member


def encode(member: Member) -> bytes:
    """Return a member as JSON."""
    return _adapter().dump_json(member, indent=1)


def decode(data: bytes) -> Member:
    """Return the member that was encoded; what a later release says of it besides is passed over.

    Raises
    ------
    ValueError
        It is none.
    """
    return _adapter().validate_json(data)


def encode_all(members: list[Member]) -> bytes:
    """Return members as JSON."""
    return _list_adapter().dump_json(members, indent=1)


def decode_all(data: bytes) -> list[Member]:
    """Return the members that were encoded.

    Raises
    ------
    ValueError
        It is no list of members.
    """
    return _list_adapter().validate_json(data)


@cache
def _adapter() -> TypeAdapter[Member]:
    return TypeAdapter(Member)


@cache
def _list_adapter() -> TypeAdapter[list[Member]]:
    return TypeAdapter(list[Member])
