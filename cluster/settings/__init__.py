"""The settings: one TOML file, every limit with a unit in its name.

A mistake is told by file, key and what was expected; nothing is guessed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from cluster.dicom.limits import UpperLayerLimits
from cluster.settings.coordination import Etcd
from cluster.settings.dicom import Destination, Dicom, Http, Peer
from cluster.settings.front_door import Link, Probing, Route, Service, Tls, TlsMode, Worker
from cluster.settings.limits import Changes, Deletion, Limits, Resend, Upkeep, UpperLayer, Writing
from cluster.settings.shared import SharedSettings
from cluster.settings.site import Site
from cluster.settings.values import MIB, AeTitle, Seconds, SettingsError, SiteName, worded

__all__ = [
    "MIB",
    "AeTitle",
    "Changes",
    "Deletion",
    "Destination",
    "Dicom",
    "Etcd",
    "Http",
    "Limits",
    "Link",
    "Peer",
    "Probing",
    "Resend",
    "Route",
    "Service",
    "Settings",
    "SettingsError",
    "SharedSettings",
    "Site",
    "SiteName",
    "Tls",
    "TlsMode",
    "Upkeep",
    "UpperLayer",
    "Worker",
    "Writing",
    "load",
    "loads",
]


class Settings(SharedSettings):
    """Everything that a process needs to know: what all hosts share, and what is this one's own."""

    data_folder: Path = Path("~/.local/share/atria")
    """Where a one-host cluster keeps its sites, unless `sites` names others, and its run-time state."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    drain_timeout_s: Seconds = 60.0
    """How long running associations may go on when a process is asked to end."""
    drain_idle_s: Seconds = 5.0
    """How long one of them may be silent between messages meanwhile: then it is aborted."""
    site: SiteName | None = None
    """The site that this host is at, if it is at one: a label of its workers, which read there first."""
    etcd: Etcd = Etcd()
    service: Service = Service()
    link: Link = Link()
    worker: Worker = Worker()
    probing: Probing = Probing()
    tls: Tls = Tls()
    dicom: Dicom = Dicom()
    http: Http = Http()
    upper_layer: UpperLayer = UpperLayer()
    writing: Writing = Writing()
    upkeep: Upkeep = Upkeep()
    changes: Changes = Changes()
    deletion: Deletion = Deletion()
    minio_binary: Path | None = None
    """MinIO's program, for `atria up --sites minio`; found in `servers/` or PATH when it is not set."""
    sites: tuple[Site, ...] = ()

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        folder = self.data_folder.expanduser().absolute()
        object.__setattr__(self, "data_folder", folder)
        if not self.sites:
            object.__setattr__(self, "sites", tuple(_default_site(folder, name) for name in ("a", "b", "c")))
        for what, found in (
            ("a name", [site.name for site in self.sites]),
            ("an objects folder", [str(site.objects_folder) for site in self.sites if not site.is_s3]),
            ("a bucket", [site.bucket_url for site in self.sites if site.is_s3]),
            ("a catalogue file", [str(site.catalogue_file) for site in self.sites if not site.is_postgresql]),
            ("a database", [site.database.place for site in self.sites if site.is_postgresql]),
        ):
            if len(set(found)) != len(found):
                raise ValueError(f"sites: each needs {what} of its own, found {', '.join(found)}")
        if self.site is not None and self.site not in {site.name for site in self.sites}:
            raise ValueError(
                f"site: expected one of {', '.join(s.name for s in self.sites)}, found {self.site}"
            )
        w, n = self.writing.copies_before_success, len(self.sites)
        if not n / 2 < w <= n:
            raise ValueError(
                f"writing.copies_before_success: with {n} sites it must be more than half of them and at most"
                f" {n}, found {w}: otherwise two catalogues could share no acknowledged instance"
            )
        return self

    def peer(self, ae_title: str) -> Peer:
        """Return what holds for an Application Entity that asks, be it named or not."""
        peer = next((peer for peer in self.peers if peer.ae_title == ae_title), None)
        own = peer.model_dump(exclude_none=True) if peer else {}
        return Peer.model_construct(
            **{
                "ae_title": ae_title,
                "character_set": self.dicom.character_set,
                "lenient_levels": self.dicom.lenient_levels,
                **own,
            }
        )

    @property
    def upper_layer_limits(self) -> UpperLayerLimits:
        """The limits of an association, as the upper layer takes them."""
        return UpperLayerLimits(
            **self.upper_layer.model_dump(),
            command_set_limit_bytes=self.limits.command_set_limit_bytes,
        )

    @property
    def logs_folder(self) -> Path:
        """Where the processes of a one-host cluster write their logs."""
        return self.data_folder / "logs"

    @property
    def requests_folder(self) -> Path:
        """Where its processes are asked to end, or to come back."""
        return self.data_folder / "requests"

    @property
    def members_folder(self) -> Path:
        """Where the processes of a one-host cluster announce themselves."""
        return self.data_folder / "members"

    @property
    def remembered_folder(self) -> Path:
        """Where each process of several hosts keeps what it starts with when etcd is away."""
        return self.data_folder / "remembered"


def _default_site(folder: Path, name: str) -> Site:
    root = folder / f"site-{name}"
    return Site(name=name, objects=f"file://{root}/objects", catalogue=f"sqlite:///{root}/catalogue.sqlite")


def load(file: Path | None, **overrides: object) -> Settings:
    """Read the settings.

    Parameters
    ----------
    file : Path or None
        The TOML file; None for the defaults.
    **overrides : object
        Values of top-level keys that stand above the file's, by name; tables are merged key by key.

    Raises
    ------
    SettingsError
        The file is not there, is no TOML, or holds a key or value that is not expected.
    """
    if file is None:
        return loads("", **overrides)
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: is not UTF-8: {error}") from error
    try:
        return loads(text, **overrides)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from error


def loads(text: str, **overrides: object) -> Settings:
    """Read settings from the text of a file, as `load` does.

    Raises
    ------
    SettingsError
        It is no TOML, or holds a key or value that is not expected.
    """
    try:
        values: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"is not TOML: {error}") from error
    for key, value in overrides.items():
        table = values.get(key, {})
        if not isinstance(value, dict):
            values[key] = value
        elif isinstance(table, dict):  # else the file is wrong there, and stays so: validation tells
            values[key] = {**table, **value}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(worded(error)) from error
