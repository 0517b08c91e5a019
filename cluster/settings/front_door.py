"""The front door: its address, how it chooses workers, and those behind it."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from cluster.settings.values import AeTitle, Port, Seconds, Table


def _reachable(host: str) -> str:
    if host in ("", "0.0.0.0", "::"):  # noqa: S104  refused, not bound
        raise ValueError(f"expected one address that balancers reach this host at, found {host!r}")
    return host


Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


def _network(value: object) -> IPv4Network | IPv6Network:
    try:
        return value if isinstance(value, IPv4Network | IPv6Network) else ip_network(str(value))
    except ValueError:
        raise ValueError(f"expected a network, as 10.1.0.0/16 or fd00::/8, found {str(value)!r}") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class Service(Table):
    """The address that modalities call. Without one, each balancer is called at `dicom.host`."""

    address: IPv4Address | IPv6Address | None = None
    """Held by the balancer that leads, as a /32 or /128."""
    interface: Annotated[str, Field(min_length=1, max_length=15)] | None = None
    """Where it is held; needed with `address`."""
    lease_s: Annotated[float, Field(ge=2)] = 3.0
    """How long a leader that has gone is waited for."""
    announce_interval_s: Seconds = 10.0
    """How often the leader tells the network where the address is (gratuitous ARP, unsolicited NA)."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.address is None) != (self.interface is None):
            raise ValueError("address and interface are given together, or neither")
        return self


class Link(Table):
    """How balancers talk with one another: TLS, with a certificate on both sides."""

    host: str = "127.0.0.1"
    port: Port = 8113
    certificate_file: Path | None = None
    """Of this balancer (PEM); its name in the cluster is a DNS name of it. Needed with two balancers."""
    key_file: Path | None = None
    ca_file: Path | None = None
    """Who signs the certificates of the cluster's balancers, and of nobody else."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        given = [name for name in ("certificate_file", "key_file", "ca_file") if getattr(self, name)]
        if len(given) not in (0, 3):
            raise ValueError("certificate_file, key_file and ca_file are given together, or none")
        return self

    @property
    def is_given(self) -> bool:
        """Whether there can be a link."""
        return self.certificate_file is not None


class TlsMode(enum.StrEnum):
    """Who ends TLS."""

    OFF = "off"
    ENDED = "ended"
    """The balancer does: it reads who is calling, and refusals are DICOM."""
    PASSED_THROUGH = "passed_through"
    """The worker does: it is chosen by source and load only. No AE title is known to the balancer, so routes,
    ceilings and checks by AE title do not hold there; a refusal is a closed connection instead of an
    A-ASSOCIATE-RJ, and an association whose worker dies breaks without an A-ABORT."""


class Tls(Table):
    """DICOM over TLS (PS3.15 B.12), on a port of its own."""

    mode: TlsMode = TlsMode.OFF
    port: Port = 2762
    certificate_file: Path | None = None
    """Certificate (PEM), with those that sign it. Read again when it changes."""
    key_file: Path | None = None
    client_ca_file: Path | None = None
    """Who signs the certificates of callers; without it callers need none."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.mode is not TlsMode.OFF and not (self.certificate_file and self.key_file):
            raise ValueError(f"mode {self.mode}: needs certificate_file and key_file")
        return self


class Route(Table):
    """Which workers take associations of a kind. The first route that fits is taken."""

    called_ae: AeTitle | None = None
    calling_ae: AeTitle | None = None
    source: Network | None = None
    """Network that the caller is in, `10.1.0.0/16`."""
    workers: dict[Label, Label] = Field(default_factory=dict)
    """Labels that a worker must have: `site`, and those of its settings. Empty: all workers."""
    only: bool = False
    """Whether associations are refused when there is no such worker; else any other takes them."""

    @property
    def is_for_all(self) -> bool:
        """Whether every association fits."""
        return self.called_ae is None and self.calling_ae is None and self.source is None


class Worker(Table):
    """The workers of this host."""

    host: Annotated[str, AfterValidator(_reachable)] = "127.0.0.1"
    """Address that they listen on, for associations and for their status pages: one that balancers reach."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """A worker of twice the weight gets twice the associations."""
    labels: dict[Label, Label] = Field(default_factory=dict)
    """By which routes choose; `site` is there by itself."""
    balancers: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    """Where balancers call from: their connections must begin with a PROXY protocol header, no others may."""


class Probing(Table):
    """How balancers look after workers."""

    interval_s: Seconds = 2.0
    """How often each worker is called and asked for a C-ECHO."""
    timeout_s: Seconds = 2.0
    failures: Annotated[int, Field(ge=1)] = 2
    """So many in a row, and a worker is passed over until it answers again."""
