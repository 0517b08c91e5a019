"""`cluster.toml`: which hosts a cluster has, what runs on each of them, and which sites it has."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from cluster.settings import Service, SiteName
from cluster.settings.values import Table, worded
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$")]
AnyTable = dict[str, Any]
"""Of settings: looked at when they are all together."""


class Install(Table):
    """Where things are on the hosts. `{host}` in a folder stands for the host's name."""

    atria: tuple[str, ...] = ("/opt/atria/bin/atria",)
    """The command, and arguments that it always gets."""
    etcd: Path = Path("/usr/bin/etcd")
    minio: Path = Path("/opt/atria/servers/minio")
    postgresql: Path = Path("/usr/lib/postgresql/15/bin")
    """The folder of its programs."""
    config: str = "/etc/atria"
    """What is rendered for a host is put there."""
    data: str = "/var/lib/atria"
    user: str = "atria"
    """Whom everything runs as, but PostgreSQL."""
    postgresql_user: str = "postgres"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not self.atria:
            raise ValueError("atria: expected a command, found nothing")
        for key in ("config", "data"):
            if not re.fullmatch(r"/[^\s%]*", getattr(self, key)):
                raise ValueError(
                    f"{key}: expected an absolute folder without spaces and %, found {getattr(self, key)!r}"
                )
        return self


class EtcdTimes(Table):
    """How quickly the members of etcd notice that one of them is gone."""

    heartbeat_ms: Annotated[int, Field(ge=10, le=1000)] = 50
    election_ms: Annotated[int, Field(ge=100, le=50_000)] = 500
    """How long a member waits for its leader before it stands for election."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.election_ms < 5 * self.heartbeat_ms:
            raise ValueError(
                f"election_ms: expected at least five times heartbeat_ms ({self.heartbeat_ms}),"
                f" found {self.election_ms}"
            )
        return self


class Host(Table):
    """One host, and what runs there."""

    name: HostName
    address: IPv4Address | IPv6Address
    """By which the other hosts reach it."""
    site: SiteName | None = None
    balancer: bool = False
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    upkeep: bool = False
    etcd: bool = False
    objects: bool = False
    """Whether the site's objects are in a MinIO server on this host."""
    catalogue: bool = False
    """Whether the site's catalogue is in a PostgreSQL server on this host."""
    settings: AnyTable = Field(default_factory=dict)
    """What this host's settings say besides."""

    @property
    def runs_atria(self) -> bool:
        """Whether it has a process of Atria, and not only servers of others."""
        return self.balancer or self.asks_sites

    @property
    def asks_sites(self) -> bool:
        """Whether it has a process that asks the sites, and must be let in there."""
        return self.upkeep or self.workers > 0

    @property
    def network(self) -> str:
        """The host alone, as a network."""
        return f"{self.address}/{self.address.max_prefixlen}"


class SitePlace(Table):
    """A site. What is not worked out from a host that has its servers is as in the settings (`[[sites]]`)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: SiteName

    @property
    def given(self) -> AnyTable:
        """What is said of it besides its name."""
        return dict(self.model_extra or {})


class Cluster(Table):
    """The whole file."""

    install: Install = Install()
    service: Service = Service()
    etcd: EtcdTimes = EtcdTimes()
    settings: AnyTable = Field(default_factory=dict)
    """What all hosts' settings say besides."""
    sites: Annotated[tuple[SitePlace, ...], Field(min_length=1)]
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _refuse_twice("hosts", "name", (host.name for host in self.hosts))
        _refuse_twice("hosts", "address", (host.address for host in self.hosts))
        _refuse_twice("sites", "name", (site.name for site in self.sites))
        if len({host.address.version for host in self.hosts}) > 1:
            raise ValueError("hosts: address: expected all IPv4 or all IPv6, found both")
        self._check_roles()
        self._check_servers()
        if self.service.address in {host.address for host in self.hosts}:
            raise ValueError(f"service.address: {self.service.address} is a host's own: expected another")
        return self

    def _check_roles(self) -> None:
        for role in ("balancer", "workers", "upkeep"):
            if not any(getattr(host, role) for host in self.hosts):
                raise ValueError(f"hosts: expected one with {role} at least, found none")
        members = len(self.of("etcd"))
        if members not in (3, 5, 7) and not (members == 0 and self._names_etcd):
            raise ValueError(
                f"hosts: expected 3, 5 or 7 with etcd, or its endpoints ([settings.etcd]), found {members}"
            )
        if members and self._names_etcd:
            raise ValueError("settings.etcd.endpoints: some hosts have etcd: expected one or the other")

    def _check_servers(self) -> None:
        sites = {site.name: site for site in self.sites}
        for host in self.hosts:
            if host.site is not None and host.site not in sites:
                raise ValueError(
                    f"host {host.name}: site: expected one of {', '.join(sites)}, found {host.site}"
                )
            if host.site is None and (host.objects or host.catalogue):
                raise ValueError(f"host {host.name}: has servers of a site: name it (site)")
        for name, site in sites.items():
            for key in ("objects", "catalogue"):
                here = [host.name for host in self.hosts if host.site == name and getattr(host, key)]
                if len(here) + (key in site.given) != 1:
                    found = [*here, *([repr(site.given[key])] if key in site.given else [])]
                    raise ValueError(
                        f"site {name}: {key}: expected one host with {key}, or where they are,"
                        f" found {' and '.join(found) or 'nothing'}"
                    )
                if str(site.given.get(key, "")).startswith(("file:", "sqlite:")):
                    raise ValueError(
                        f"site {name}: {key}: expected a server that all hosts reach, found a folder"
                    )

    @property
    def _names_etcd(self) -> bool:
        etcd = self.settings.get("etcd", {})
        return isinstance(etcd, dict) and bool(etcd.get("endpoints"))

    def of(self, role: Literal["balancer", "workers", "upkeep", "etcd"]) -> list[Host]:
        """Return the hosts that have a role."""
        return [host for host in self.hosts if getattr(host, role)]

    def config(self, host: Host) -> Path:
        """Return the folder of a host that what is rendered for it is put in."""
        return Path(self.install.config.replace("{host}", host.name))

    def data(self, host: Host) -> Path:
        """Return the folder of a host that all it keeps is in."""
        return Path(self.install.data.replace("{host}", host.name))


def load(file: Path) -> Cluster:
    """Read the file.

    Raises
    ------
    UserError
        It cannot be read, or describes no cluster that could work.
    """
    try:
        return Cluster.model_validate(tomllib.loads(file.read_text("utf-8")))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{file}: is not TOML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{file}: {worded(error)}") from error


def _refuse_twice(what: str, key: str, values: Iterable[Hashable]) -> None:
    if twice := [str(value) for value, times in Counter(values).items() if times > 1]:
        raise ValueError(f"{what}: each needs a {key} of its own, found {', '.join(twice)} twice")
