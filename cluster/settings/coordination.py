"""Where the processes of several hosts meet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from cluster.settings.values import Seconds, Table


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\]]+):[0-9]{1,5}", value):
        raise ValueError(f"expected https://HOST:PORT, found {re.sub(r'//.*@', '//…@', value)!r}")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Etcd(Table):
    """The etcd members that all hosts use. Without endpoints, a cluster has one host and needs none."""

    endpoints: tuple[Endpoint, ...] = ()
    """`https://HOST:PORT` of each; the nearest first."""
    ca_file: Path | None = None
    """Certificates (PEM) that are trusted to name them, instead of those of the system."""
    certificate_file: Path | None = None
    """Certificate (PEM) that we show them, if they ask for one; with `key_file`."""
    key_file: Path | None = None
    user: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    """First line: the password of `user`."""
    prefix: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+/$")] = "/atria/"
    """What all keys of this cluster begin with."""
    timeout_s: Seconds = 1.0
    """How long one member may take to answer before another is asked, and all of them twice as long."""
    cold_start_s: Seconds = 2.0
    """How long a process that starts waits for etcd, before it goes by what it has on disk."""
    membership_lease_s: Seconds = 10.0
    """How long a process that does not renew its announcement is still taken to be there."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for one, other in (("certificate_file", "key_file"), ("user", "password_file")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one} and {other} are given together, or neither")
        schemes = {endpoint.partition(":")[0] for endpoint in self.endpoints}
        if len(schemes) > 1:
            raise ValueError("endpoints: expected all with https, or all with http")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError(f"endpoints: each is named once, found {', '.join(self.endpoints)}")
        return self
