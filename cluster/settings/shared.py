"""What holds on all hosts of a cluster alike, and is changed while its processes run.

Whether something is shared is decided here, and nowhere else: what a caller meets must not depend on the host
that it happens to call. What only one host can know (its addresses, folders, certificates) is not shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self, TypeAlias

from pydantic import ValidationError, model_validator

from cluster.settings.dicom import Destination, Peer, SharedDicom
from cluster.settings.front_door import Route
from cluster.settings.limits import Limits
from cluster.settings.values import SettingsError, Table, worded

if TYPE_CHECKING:
    from cluster.settings import Settings

Document: TypeAlias = Mapping[str, object]
"""Shared settings as JSON and TOML have them: what is left to its default is not in it."""


class SharedSettings(Table):
    """The shared part of the settings."""

    dicom: SharedDicom = SharedDicom()
    limits: Limits = Limits()
    destinations: tuple[Destination, ...] = ()
    peers: tuple[Peer, ...] = ()
    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _check_titles(self) -> Self:
        tables: tuple[tuple[str, tuple[Destination | Peer, ...]], ...] = (
            ("destinations", self.destinations),
            ("peers", self.peers),
        )
        for what, entries in tables:
            titles = [entry.ae_title for entry in entries]
            if len(set(titles)) != len(titles):
                raise ValueError(f"{what}: each needs an ae_title of its own, found {', '.join(titles)}")
        return self

    @property
    def known_aes(self) -> frozenset[str]:
        """AE titles of all that the cluster was told of."""
        return frozenset(entry.ae_title for entries in (self.peers, self.destinations) for entry in entries)


def of(settings: Settings) -> SharedSettings:
    """Return what a process's settings have in common with those of other hosts."""
    return parse(document(settings))


def apply(settings: Settings, shared: SharedSettings) -> Settings:
    """Return the settings of a process with other shared ones.

    Raises
    ------
    SettingsError
        They do not go together.
    """
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    own = {
        name: getattr(settings.dicom, name)
        for name in settings.dicom.model_fields_set.difference(SharedDicom.model_fields)
    }
    values = {name: value for name, value in values.items() if name not in SharedSettings.model_fields}
    values |= document(shared)
    values["dicom"] = {**own, **shared.dicom.model_dump(exclude_unset=True)}
    try:
        return type(settings).model_validate(values)
    except ValidationError as error:
        raise SettingsError(worded(error)) from error


def document(settings: SharedSettings) -> dict[str, object]:
    """Return what is set of the shared settings, as JSON and TOML have it."""
    own = settings.dicom.model_fields_set.difference(SharedDicom.model_fields)
    values = settings.model_dump(
        mode="json",
        include=set(SharedSettings.model_fields),
        exclude={"dicom": own},
        exclude_unset=True,
        exclude_none=True,
    )
    return {name: value for name, value in values.items() if value}


def parse(values: object) -> SharedSettings:
    """Return the shared settings that a document holds.

    Raises
    ------
    SettingsError
        It holds a key or value that this release does not expect: nothing of it is passed over.
    """
    try:
        return SharedSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(worded(error)) from error


def flat(values: Document) -> dict[str, object]:
    """Return the values of a document by dotted keys, `limits.associations`; a list is one value."""
    return dict(_flat("", values))


def differences(one: Document, other: Document) -> list[str]:
    """Return the dotted keys whose values are not the same in both documents, in order."""
    ours, theirs = flat(one), flat(other)
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def _flat(above: str, values: Document) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{above}{name}.", value)
        else:
            yield f"{above}{name}", value
