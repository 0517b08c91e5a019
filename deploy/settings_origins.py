"""Where each value of the settings comes from."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.settings.shared import SharedSettings
from cluster.settings.values import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.settings import Settings
    from cluster.settings.shared import Document


class Origin(enum.StrEnum):
    """Who says what a value is."""

    DEFAULT = "default"
    FILE = "file"
    COMMAND_LINE = "command line"
    """Or the environment."""
    DATA_FOLDER = "data folder"
    """It keeps servers of its own for its sites."""
    CLUSTER = "cluster"
    """All hosts share it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that holds."""

    key: str
    """Dotted, `limits.associations`."""
    value: object
    """As JSON has it."""
    origin: Origin


def settings_of(
    settings: Settings, *, file: Document, given: frozenset[str], cluster: Document | None
) -> list[Setting]:
    """Return all values with their origins, in the order of the settings.

    Parameters
    ----------
    settings : Settings
        What holds.
    file : mapping
        What the settings file says.
    given : frozenset of str
        Dotted keys that the command line or the environment says.
    cluster : mapping or None
        What the cluster's hosts share; None on one host, where the file says it.
    """
    found = []
    for key, value in _values(settings, settings.model_dump(mode="json")):
        if cluster is not None and _is_shared(key):
            origin = Origin.CLUSTER if _has(cluster, key) else Origin.DEFAULT
        elif key in given:
            origin = Origin.COMMAND_LINE
        elif _has(file, key):
            origin = Origin.FILE
        elif key == "sites" and "sites" in settings.model_fields_set:
            origin = Origin.DATA_FOLDER
        else:
            origin = Origin.DEFAULT
        found.append(Setting(key, value, origin))
    return found


def _values(table: Table, dumped: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name in type(table).model_fields:
        value, as_json = getattr(table, name), dumped[name]
        if isinstance(value, Table):
            assert isinstance(as_json, Mapping)
            yield from _values(value, as_json, f"{above}{name}.")
        else:
            yield f"{above}{name}", as_json


def _is_shared(key: str) -> bool:
    top, _, name = key.partition(".")
    field = SharedSettings.model_fields.get(top)
    return field is not None and (not name or name in getattr(field.annotation, "model_fields", {}))


def _has(values: Document, key: str) -> bool:
    found: object = values
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True
