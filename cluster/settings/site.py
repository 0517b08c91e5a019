"""Where a site keeps its objects and its catalogue."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cluster import database_url
from cluster.database_url import DatabaseUrl
from cluster.settings.values import SiteName, Table


class Site(Table):
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
