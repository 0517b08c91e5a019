"""A revision as it is written down where others read it."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter

from cluster.settings.values import SettingsError
from cluster.settings_store.protocol import SettingsRevision


def encode(revision: SettingsRevision) -> bytes:
    """Return a revision as JSON."""
    return _adapter().dump_json(revision, indent=1)


def decode(data: bytes, *, where: str) -> SettingsRevision:
    """Return the revision that was encoded. Whether this release understands its document is not looked at.

    Raises
    ------
    SettingsError
        It is none.
    """
    try:
        return _adapter().validate_json(data)
    except ValueError as error:
        raise SettingsError(f"{where} holds no revision of the settings: {error}".splitlines()[0]) from error


@cache
def _adapter() -> TypeAdapter[SettingsRevision]:
    return TypeAdapter(SettingsRevision)
