"""Where a bucket is, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote, urlsplit

PLAIN: Final = "/-_.~"
"""What stands in a URL's path as it is, besides letters and digits (RFC 3986 2.3); all else is encoded."""


@dataclass(frozen=True)
class S3Location:
    """A bucket of an S3 service."""

    endpoint: str
    """`https://host:port` or `http://host:port`, without a path."""
    bucket: str
    region: str = "us-east-1"
    path_style: bool = True
    """Whether the bucket is named in the path of a URL, or else in its host name."""
    ca_file: Path | None = None
    """Certificates (PEM) that are trusted to name the server, instead of those of the system."""

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.endpoint.startswith("https:")

    @cached_property
    def host(self) -> str:
        """Where its server is, `host` or `host:port`: as the Host header says it (RFC 9110 7.2)."""
        url = urlsplit(self.endpoint)
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
        default = 443 if self.secure else 80
        return host if url.port in (None, default) else f"{host}:{url.port}"

    @cached_property
    def bucket_host(self) -> str:
        """The host of the bucket's own URLs."""
        return self.host if self.path_style else f"{self.bucket}.{self.host}"

    def path(self, key: str) -> str:
        """Return the encoded path of an object, or of the bucket for an empty key."""
        encoded = quote(key, safe=PLAIN)
        return f"/{self.bucket}/{encoded}" if self.path_style else f"/{encoded}"

    def __str__(self) -> str:
        return f"{self.endpoint} bucket {self.bucket}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks. Shown nowhere."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


CredentialsProvider: TypeAlias = Callable[[], Credentials]
"""Returns those that hold now, or raises `SiteUnavailable`. Called for each request: they can change."""


@dataclass(frozen=True, slots=True)
class S3Limits:
    """What is asked of one site's server at most, and how long it may take.

    How long a whole call may take is its caller's business.
    """

    connections: int = 96
    """At once. More than the calls that the grid lets through, so that a probe never waits for them."""
    connect_timeout_s: float = 3.0
    silence_timeout_s: float = 60.0
    """How long a server may say nothing while it is waited for."""
