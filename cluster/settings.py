"""The settings: one TOML file, every limit with a unit in its name.

A mistake is told by file, key and what was expected; nothing is guessed.
"""

from __future__ import annotations

import enum
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from cluster import database_url
from cluster.database_url import DatabaseUrl
from cluster.dicom.character_sets import repertoire
from cluster.dicom.limits import UpperLayerLimits


def _ae_title(value: str) -> str:
    title = value.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title):
        raise ValueError(f"expected 1 to 16 ASCII characters without backslash, found {value!r}")
    return title


AeTitle = Annotated[str, AfterValidator(_ae_title)]
"""An Application Entity title: 1 to 16 characters of ISO 646 without backslash (PS3.5 6.2, VR AE)."""
_CHARACTER_SETS = re.compile(
    r"ISO_IR [0-9]+|GB18030|GBK|ISO 2022 IR [0-9]+|(ISO 2022 IR [0-9]+)?(\\ISO 2022 IR [0-9]+)+"
)


def _character_set(value: str) -> str:
    if not _CHARACTER_SETS.fullmatch(value) or not repertoire(value.encode("ascii")).is_known:
        raise ValueError(
            "expected a Defined Term of Specific Character Set, as ISO_IR 100 or ISO_IR 192, or several"
            f" ISO 2022 IR … joined by a backslash, of which the first may be empty, found {value!r}"
        )
    return value


CharacterSet = Annotated[str, AfterValidator(_character_set)]
"""A value of Specific Character Set (PS3.3 C.12.1.1.2)."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]

MIB = 1024 * 1024


class SettingsError(Exception):
    """A settings file that cannot be used; the message is one line for the operator."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UpperLayer(_Table):
    """Limits of one association (PS3.8)."""

    max_pdu_length_bytes: Annotated[int, Field(ge=4096, le=64 * MIB)] = MIB
    """Largest P-DATA-TF variable field we receive, and the largest we send (PS3.8 D.1.1)."""
    artim_timeout_s: Seconds = 30.0
    """ARTIM: how long a connection may stay without its A-ASSOCIATE-RQ, or without its end (PS3.8 9.1.5)."""
    idle_timeout_s: Seconds = 600.0
    """How long an association may stay silent between two messages."""
    message_timeout_s: Seconds = 60.0
    """How long a peer may be silent in the middle of a message or before an answer is taken."""
    connect_timeout_s: Seconds = 5.0
    associate_rq_limit_bytes: Bytes = MIB
    """Largest A-ASSOCIATE PDU that is read."""


class Limits(_Table):
    """What one process takes upon itself at most: a worker, where no other is named."""

    associations: Annotated[int, Field(gt=0)] = 200
    """Associations at once; the next one is rejected: 2/3/2 (PS3.8 9.3.4)."""
    balancer_associations: Annotated[int, Field(gt=0)] = 1000
    """Associations that the balancer relays at once; the next one is rejected: 2/3/2."""
    memory_limit_bytes: Annotated[int, Field(ge=MIB)] = 16 * MIB
    """Largest instance that is held in memory; a larger one is streamed to the sites as it arrives."""
    held_bytes: Bytes = 512 * MIB
    """Memory for instances of more than 1 MiB that arrive at once; who finds none left is made to wait."""
    command_set_limit_bytes: Bytes = 64 * 1024
    identifier_limit_bytes: Bytes = MIB
    """Largest Identifier of a query."""
    header_limit_bytes: Bytes = 64 * 1024
    """Raw elements of a header that a catalogue keeps; the object has the rest."""
    find_matches: Annotated[int, Field(gt=0)] = 100_000
    """Answers to one C-FIND; past it the query fails with 0xA700."""
    rejected_instances: Annotated[int, Field(gt=0)] = 10_000
    """Instances that one rejection note may name; one that names more is refused: 0xA700."""
    rejection_note_limit_bytes: Bytes = 16 * MIB
    """Largest Key Object Selection Document that is read; a larger one is refused: 0xA700."""
    compared_limit_bytes: Bytes = 4096 * MIB
    """Largest version whose pixels are compared with those of another that an instance has already; where
    that is not done the first stays the current one, until a person chooses."""
    decoded_limit_bytes: Bytes = 64 * MIB
    """Largest version that is held in memory for that: of a larger one pixels are compared as encoded."""


class Writing(_Table):
    """How many copies an acknowledgement needs, and how long is waited for the others."""

    copies_before_success: Annotated[int, Field(ge=1)] = 2
    """W: sites that hold a copy before success is answered."""
    straggler_grace_s: Seconds = 0.5
    """How long the slower sites are waited for before they are owed the copy."""
    site_timeout_s: Seconds = 10.0
    """How long one step at one site may take."""
    probe_interval_s: Seconds = 1.0
    """How often each site is asked whether it is well."""
    probe_timeout_s: Seconds = 1.0
    """How long that may take; a site that takes longer is down, and nobody waits for it any more."""
    hedge_after_s: Seconds = 0.25
    """How long a read waits for one site at most before it asks another, too: less where reads are quick."""
    site_requests: Annotated[int, Field(gt=0)] = 64
    """Requests of one process that are under way at one site; the next one waits."""
    site_held_bytes: Bytes = 256 * MIB
    """Bytes of objects that one process is writing to one site; past it the site is passed over, and owed."""
    free_space_low_bytes: Bytes = 2048 * MIB
    """A site with less room than this is full: it is not written to until it has half as much again."""


class Upkeep(_Table):
    """What runs in the background, and how fast."""

    repair_interval_s: Seconds = 1.0
    repair_at_once: Annotated[int, Field(gt=0, le=64)] = 8
    """Debts that are paid at the same time."""
    repair_rate_bytes_per_s: Bytes | None = None
    """How fast sites that are owed copies are filled; as fast as it goes when it is not set."""
    anti_entropy_interval_s: Seconds = 3600.0
    """How often the catalogues are compared."""
    scrub_period_days: Annotated[float, Field(gt=0)] = 30.0
    """Within so many days each copy is read and its digest checked."""
    collection_interval_s: Seconds = 3600.0
    """How often objects that have no row are looked for."""
    orphan_grace_h: Annotated[float, Field(ge=1)] = 24.0
    """Age at which an object without a row, or an upload that was not finished, is no live writer's."""


class Changes(_Table):
    """How a site's change feed is followed."""

    poll_interval_s: Seconds = 1.0
    """How often it is looked whether something came."""
    study_complete_after_s: Seconds = 60.0
    """A study of which nothing new came for so long is complete."""


class Resend(enum.StrEnum):
    """What becomes of an instance that was deleted, when it is sent again."""

    REVIVES = "revives"
    """It is in answers again."""
    STAYS_DELETED = "stays_deleted"
    """It is kept like what was deleted: in no answer, until somebody takes the deletion back."""


class Deletion(_Table):
    """What becomes of what is deleted."""

    trash_days: Annotated[float, Field(ge=0)] = 30.0
    """How long a deletion can be taken back; then the bytes go."""
    resend: Resend = Resend.REVIVES


class Site(_Table):
    """One failure unit: an object store and a catalogue."""

    name: SiteName
    objects: str
    """`file:///an/absolute/folder`, or `s3://bucket`."""
    catalogue: str
    """`sqlite:////an/absolute/file`, or `postgresql://user@host:port/database`, and `?sslmode=…`."""
    catalogue_passfile: Path | None = None
    """Password file for that database, as libpq has it (PGPASSFILE). This is for `postgresql://` only."""
    endpoint: str | None = None
    """Where the bucket's server is: `https://host:port`. This and all below are for `s3://` only."""
    region: Annotated[str, Field(min_length=1)] = "us-east-1"
    path_style: bool = True
    """Whether the bucket is named in the path of a URL, or else in its host name."""
    ca_file: Path | None = None
    """Certificates (PEM) that are trusted to name the server, instead of those of the system."""
    credentials_file: Path | None = None
    """AWS shared credentials file; without it the environment has them (`deploy.credentials`)."""
    credentials_profile: Annotated[str, Field(min_length=1)] = "default"
    """Section of that file."""
    require_versioning: bool = True
    """Report a bucket that is not versioned: what is removed from it cannot be named exactly."""
    require_object_lock: bool = True
    """Report a bucket without object lock: nothing in it can be protected from removal."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.is_postgresql:
            self._check_postgresql()
        elif not self.catalogue.startswith("sqlite:////"):
            raise self._expected("catalogue", f"sqlite:////FILE or {database_url.FORM}", self.catalogue)
        elif self.catalogue_passfile is not None:
            said = f"is for postgresql:// only, and catalogue is {self.catalogue}"
            raise self._error("catalogue_passfile", said)
        if self.is_s3:
            self._check_s3()
        elif not self.objects.startswith("file:///"):
            raise self._expected("objects", "file:///FOLDER or s3://BUCKET", self.objects)
        elif misplaced := sorted(self.model_fields_set & _S3_ONLY):
            raise self._error(misplaced[0], f"is for s3://BUCKET only, and objects is {self.objects}")
        return self

    def _check_postgresql(self) -> None:
        try:
            DatabaseUrl.parse(self.catalogue)
        except ValueError as error:
            raise self._error("catalogue", str(error)) from error

    def _check_s3(self) -> None:
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", self.objects):
            raise self._expected("objects", "s3://BUCKET, of 3 to 63 of a-z, 0-9, . and -", self.objects)
        if self.endpoint is None:
            raise self._error("endpoint", "expected https://HOST:PORT of the server, found nothing")
        try:
            url = urlsplit(self.endpoint)
            port = url.port
        except ValueError as error:
            raise self._error("endpoint", f"expected https://HOST:PORT, found no URL: {error}") from error
        if url.username is not None or url.password is not None:
            raise self._error("endpoint", "expected no credentials: name a file (credentials_file) for them")
        if (
            url.scheme not in _DEFAULT_PORTS
            or not url.hostname
            or port == 0
            or url.path.strip("/")
            or url.query
            or url.fragment
        ):
            raise self._expected("endpoint", "https://HOST:PORT or http://HOST:PORT", self.endpoint)
        if self.ca_file is not None and url.scheme != "https":
            raise self._error("ca_file", f"is for https only, and the endpoint is {self.endpoint}")

    def _expected(self, key: str, expected: str, found: str) -> ValueError:
        # Whatever was mistaken for a URL may hold credentials.
        return self._error(key, f"expected {expected}, found {re.sub(r'//.*@', '//…@', found)!r}")

    def _error(self, key: str, said: str) -> ValueError:
        return ValueError(f"site {self.name}: {key}: {said}")

    @property
    def is_s3(self) -> bool:
        """Whether its objects are in a bucket, and not in a folder."""
        return self.objects.startswith("s3://")

    @property
    def bucket(self) -> str:
        """The bucket that holds the objects."""
        assert self.is_s3
        return self.objects.removeprefix("s3://")

    @property
    def bucket_url(self) -> str:
        """The one URL that all spellings of its endpoint and bucket have in common."""
        assert self.endpoint is not None
        url = urlsplit(self.endpoint)
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        return f"{url.scheme}://{host}:{url.port or _DEFAULT_PORTS[url.scheme]}/{self.bucket}"

    @property
    def objects_folder(self) -> Path:
        """The folder that holds the objects."""
        assert not self.is_s3
        return Path(self.objects.removeprefix("file://"))

    @property
    def is_postgresql(self) -> bool:
        """Whether its catalogue is in PostgreSQL, and not in a file."""
        return self.catalogue.startswith("postgresql:")

    @property
    def database(self) -> DatabaseUrl:
        """Where its PostgreSQL database is."""
        assert self.is_postgresql
        return DatabaseUrl.parse(self.catalogue)

    @property
    def catalogue_file(self) -> Path:
        """The SQLite database."""
        assert not self.is_postgresql
        return Path("/" + self.catalogue.removeprefix("sqlite:////"))


_S3_ONLY: Final = frozenset(Site.model_fields) - {"name", "objects", "catalogue", "catalogue_passfile"}
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Destination(_Table):
    """An Application Entity that a C-MOVE may name."""

    ae_title: AeTitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    as_stored: bool = False
    """Send it what is stored, without what people have corrected."""


class Peer(_Table):
    """An Application Entity that asks; what is not set is as `[dicom]` has it."""

    ae_title: AeTitle
    character_set: CharacterSet | None = None
    """Specific Character Set of the answers to its queries, where it has all their characters."""
    lenient_levels: bool | None = None
    """Whether its queries may leave out the unique keys of upper levels; else they fail with 0xA900."""
    show_rejected: bool = False
    """Whether it finds and retrieves what was rejected for quality reasons, too (IHE RAD IOCM)."""


class Dicom(_Table):
    """The DICOM side of the cluster."""

    ae_title: AeTitle = "ATRIA"
    host: str = "127.0.0.1"
    port: Port = 11112
    check_called_ae_title: bool = False
    """Reject associations to another called AE title: 1/1/7 (PS3.8 9.3.4)."""
    accept_unknown_storage: bool = True
    """Take an abstract syntax that is no known service as storage: private and retired classes too."""
    character_set: CharacterSet | None = None
    """Specific Character Set of answers to queries, where it has all their characters, whoever asks; that of
    the query when it is not set."""
    lenient_levels: bool = False
    """Whether queries may leave out the unique keys of upper levels; else they fail with 0xA900."""


class Http(_Table):
    """The status pages: `/metrics`, `/healthz`, `/readyz`, `/status`."""

    host: str = "127.0.0.1"
    port: Port = 8112


class Settings(_Table):
    """Everything that a process needs to know."""

    data_folder: Path = Path("~/.local/share/atria")
    """Where a one-host cluster keeps its sites, unless `sites` names others, and its run-time state."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    drain_timeout_s: Seconds = 60.0
    """How long running associations may go on when a process is asked to end."""
    dicom: Dicom = Dicom()
    http: Http = Http()
    upper_layer: UpperLayer = UpperLayer()
    limits: Limits = Limits()
    writing: Writing = Writing()
    upkeep: Upkeep = Upkeep()
    changes: Changes = Changes()
    deletion: Deletion = Deletion()
    minio_binary: Path | None = None
    """MinIO's program, for `atria up --sites minio`; found in `servers/` or PATH when it is not set."""
    sites: tuple[Site, ...] = ()
    destinations: tuple[Destination, ...] = ()
    peers: tuple[Peer, ...] = ()

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
        titles = [peer.ae_title for peer in self.peers]
        if len(set(titles)) != len(titles):
            raise ValueError(f"peers: each needs an ae_title of its own, found {', '.join(titles)}")
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
    def members_folder(self) -> Path:
        """Where the processes of a one-host cluster announce themselves."""
        return self.data_folder / "members"


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
    values: dict[str, object] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file}: cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file}: is not TOML: {error}") from error
    for key, value in overrides.items():
        table = values.get(key, {})
        if not isinstance(value, dict):
            values[key] = value
        elif isinstance(table, dict):  # else the file is wrong there, and stays so: validation tells
            values[key] = {**table, **value}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{file}: {_first(error)}" if file else _first(error)) from error


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    where = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    said = details["msg"].removeprefix("Value error, ")
    if said.startswith("Input should be "):
        said = f"expected {said.removeprefix('Input should be ')}, found {details['input']!r}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {said}{more}" if where else f"{said}{more}"
