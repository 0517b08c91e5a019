"""What the commands do to the shared settings: functions of what holds, which refuse what makes no sense."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cluster.settings import Settings
from cluster.settings.dicom import Destination, Peer, SharedDicom
from cluster.settings.limits import Limits
from cluster.settings.shared import SharedSettings, document, parse
from cluster.settings.values import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.settings.front_door import Route

    Titled = TypeVar("Titled", Destination, Peer)

SETTABLE: Final = (
    *(f"dicom.{name}" for name in SharedDicom.model_fields),
    *(f"limits.{name}" for name in Limits.model_fields),
)
"""Keys of shared settings that have one value each."""
_BY_COMMAND: Final = {"destinations": "atria ae", "peers": "atria ae", "routes": "atria route"}


@dataclass(frozen=True, slots=True)
class Ae:
    """What is said of an Application Entity. None is left as it is, or as it is for all."""

    title: str
    host: str | None = None
    port: int | None = None
    as_stored: bool | None = None
    character_set: str | None = None
    lenient_levels: bool | None = None
    show_rejected: bool | None = None


def with_ae(now: SharedSettings, ae: Ae) -> SharedSettings:
    """Return the settings with an AE added, or changed where it is there already.

    It is a destination when a host and port were given, and a peer when there is anything else to say of it,
    or nothing at all.

    Raises
    ------
    SettingsError
    """
    title = ae.title.strip(" ")
    values = document(now)
    place = {"host": ae.host, "port": ae.port, "as_stored": ae.as_stored}
    manner = {
        "character_set": ae.character_set,
        "lenient_levels": ae.lenient_levels,
        "show_rejected": ae.show_rejected,
    }
    is_destination = any(value is not None for value in place.values())
    if is_destination:
        _put(values, "destinations", title, place)
        entry = next(one for one in _entries(values, "destinations") if one["ae_title"] == title)
        if "host" not in entry or "port" not in entry:
            raise SettingsError(f"{title} is no destination yet: give its --host and its --port")
    if not is_destination or any(value is not None for value in manner.values()):
        _put(values, "peers", title, manner)
    return parse(values)


def without_ae(now: SharedSettings, title: str) -> SharedSettings:
    """Return the settings without an AE.

    Raises
    ------
    SettingsError
        There is none of this title.
    """
    title = title.strip(" ")
    if title not in now.known_aes:
        known = ", ".join(sorted(now.known_aes)) or "none"
        raise SettingsError(f"there is no AE {title}: known are {known}")
    values = document(now)
    for table in ("destinations", "peers"):
        values[table] = [one for one in _entries(values, table) if one["ae_title"] != title]
    return parse(values)


def with_route(now: SharedSettings, route: Route, *, before: int | None) -> SharedSettings:
    """Return the settings with a route added: before that of a number, counted from 1, or as the last.

    A route for all associations stays the last: without a number, others are put before it.

    Raises
    ------
    SettingsError
        There is no route of this number.
    """
    routes = list(now.routes)
    routes.insert(_behind_others(routes, route) if before is None else _index(routes, before), route)
    return _with_routes(now, routes)


def without_route(now: SharedSettings, number: int, expected: Route) -> SharedSettings:
    """Return the settings without the route of a number, counted from 1.

    Raises
    ------
    SettingsError
        There is no route of this number, or it is another than was expected.
    """
    routes = list(now.routes)
    if routes[_index(routes, number)] != expected:
        raise SettingsError("somebody else has just changed the routes: look at them again")
    del routes[number - 1]
    return _with_routes(now, routes)


def with_value(now: SharedSettings, key: str, word: str) -> SharedSettings:
    """Return the settings with another value, given as a word of the command line.

    Raises
    ------
    SettingsError
        There is no such key, it is not a shared one, or that is no value for it.
    """
    table, name = _split(key)
    values = document(now)
    values[table] = {**_table(values, table), name: _value(word)}
    return parse(values)


def without_value(now: SharedSettings, key: str) -> SharedSettings:
    """Return the settings with the default value of a key.

    Raises
    ------
    SettingsError
        There is no such key, or it is not a shared one.
    """
    table, name = _split(key)
    values = document(now)
    values[table] = {other: value for other, value in _table(values, table).items() if other != name}
    return parse(values)


def _split(key: str) -> tuple[str, str]:
    if key in SETTABLE:
        table, _, name = key.partition(".")
        return table, name
    top = key.partition(".")[0]
    if command := _BY_COMMAND.get(top):
        raise SettingsError(f"{key}: is a list: change it with `{command}`")
    if below := next((one for one in SETTABLE if one.startswith(f"{key}.")), None):
        raise SettingsError(f"{key}: is a table: name one of its keys, as {below}")
    if _is_setting(key):
        raise SettingsError(f"{key}: is each host's own: set it in its settings file")
    raise SettingsError(f"{key}: there is no such setting: `atria settings show` lists them")


def _is_setting(key: str) -> bool:
    fields: Any = Settings.model_fields
    for name in key.split("."):
        if name not in fields:
            return False
        fields = getattr(fields[name].annotation, "model_fields", {})
    return True


def _value(word: str) -> object:
    """Return a word as TOML has it where it is a number or truth value, and else as it is."""
    try:
        value: object = tomllib.loads(f"value = {word}")["value"]
    except tomllib.TOMLDecodeError:
        return word
    return value if isinstance(value, bool | int | float | str) else word


def _put(values: dict[str, object], table: str, title: str, said: Mapping[str, object]) -> None:
    """Add an entry to a list, or change it."""
    entries = [dict(one) for one in _entries(values, table)]
    entry = next((one for one in entries if one["ae_title"] == title), None)
    if entry is None:
        entry = {"ae_title": title}
        entries.append(entry)
    entry |= {key: value for key, value in said.items() if value is not None}
    values[table] = entries


def _with_routes(now: SharedSettings, routes: Sequence[Route]) -> SharedSettings:
    dumped = [route.model_dump(mode="json", exclude_unset=True, exclude_none=True) for route in routes]
    return parse({**document(now), "routes": dumped})


def _behind_others(routes: Sequence[Route], route: Route) -> int:
    """Return where a route is the last, or the last before those that are for all associations."""
    end = len(routes)
    if not route.is_for_all:
        while end and routes[end - 1].is_for_all:
            end -= 1
    return end


def _index(routes: Sequence[Route], number: int) -> int:
    if not 1 <= number <= len(routes):
        there = f"there are {len(routes)}" if routes else "there is none"
        raise SettingsError(f"there is no route {number}: {there}")
    return number - 1


def _entries(values: dict[str, object], table: str) -> list[dict[str, object]]:
    entries = values.get(table, [])
    assert isinstance(entries, list)
    return entries


def _table(values: dict[str, object], table: str) -> dict[str, object]:
    found = values.get(table, {})
    assert isinstance(found, dict)
    return found
