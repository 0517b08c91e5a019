"""A host's `atria.toml`: what its processes need to know, with what is near to it named first."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import tomlkit
from pydantic import ValidationError

from cluster.settings import Settings
from cluster.settings.values import worded
from deploy.errors import UserError
from deploy.render import places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.render.cluster_file import Cluster, Host

_HEAD = "Rendered by `atria deploy render`: what is changed here is lost, change the cluster's file."


def render(cluster: Cluster, host: Host) -> str:
    """Return a host's settings file.

    Raises
    ------
    UserError
        The settings that it would have are not what is expected.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment(_HEAD))
    document.add(tomlkit.nl())
    document.update(_plain_values_first(table(cluster, host)))
    return tomlkit.dumps(document)


def settings(cluster: Cluster, host: Host) -> Settings:
    """Return what a host's processes will find in it.

    Raises
    ------
    UserError
        It is not what is expected.
    """
    values = table(cluster, host)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"settings of host {host.name}: {worded(error)}") from error


def table(cluster: Cluster, host: Host) -> dict[str, Any]:
    """Return a host's settings as a table.

    Raises
    ------
    UserError
        Something is given that is worked out from the hosts.
    """
    values = _worked_out(cluster, host)
    for given, where in ((cluster.settings, "settings"), (host.settings, f"settings of host {host.name}")):
        _merge(values, given, where, own=_keys(_worked_out(cluster, host)))
    return values


def _worked_out(cluster: Cluster, host: Host) -> dict[str, Any]:
    address = str(host.address)
    values: dict[str, Any] = {"data_folder": str(cluster.data(host))}
    if host.site is not None:
        values["site"] = host.site
    if cluster.service.address is not None:
        values["service"] = cluster.service.model_dump(mode="json", exclude_unset=True)
    values["dicom"] = {"host": address}
    values["http"] = {"host": address}
    values["worker"] = {"host": address, "balancers": [other.network for other in cluster.of("balancer")]}
    if members := cluster.of("etcd"):
        values["etcd"] = _etcd(cluster, host, members)
    if host.balancer and len(cluster.of("balancer")) > 1:
        values["link"] = {"host": address, **places.link(cluster, host)}
    values["sites"] = [_site(cluster, host, name) for name in _nearest_first(cluster, host)]
    return values


def _etcd(cluster: Cluster, host: Host, members: list[Host]) -> dict[str, Any]:
    near = sorted(members, key=lambda other: (other.name != host.name, other.site != host.site))
    endpoints = [places.url("https", other, places.ETCD_CLIENT_PORT) for other in near]
    return {"endpoints": endpoints, **places.etcd_client(cluster, host)}


def _nearest_first(cluster: Cluster, host: Host) -> list[str]:
    return sorted((site.name for site in cluster.sites), key=lambda name: name != host.site)


def _site(cluster: Cluster, host: Host, name: str) -> dict[str, Any]:
    given = next(site.given for site in cluster.sites if site.name == name)
    values: dict[str, Any] = {"name": name, **copy.deepcopy(given)}
    for other in cluster.hosts:
        if other.site == name and other.objects:
            values["objects"] = f"s3://{places.BUCKET}"
            values["endpoint"] = places.url("http", other, places.MINIO_PORT)
            values.setdefault("credentials_file", str(cluster.config(host) / places.MINIO_CREDENTIALS))
        if other.site == name and other.catalogue:
            values["catalogue"] = places.database_url(other)
            values.setdefault("catalogue_passfile", str(cluster.config(host) / places.PASSFILE))
    return values


def _keys(values: Mapping[str, Any], above: str = "") -> frozenset[str]:
    """Return the keys of all leaves, `dicom.host`."""
    found: set[str] = set()
    for key, value in values.items():
        found |= _keys(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}"}
    return frozenset(found)


def _merge(
    into: dict[str, Any], given: Mapping[str, Any], where: str, *, own: frozenset[str], above: str = ""
) -> None:
    """Add what is given, refusing what is worked out (`own`)."""
    for key, value in given.items():
        name = f"{above}{key}"
        if name in own:
            raise UserError(f"{where}: {name} is worked out from the hosts and sites: leave it out")
        if isinstance(value, dict):
            inner = into.setdefault(key, {})
            if not isinstance(inner, dict):
                raise UserError(f"{where}: {name}: expected no table, found one")
            _merge(inner, value, where, own=own, above=f"{name}.")
        else:
            into[key] = copy.deepcopy(value)


def _plain_values_first(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same, plain values before tables: a key below a table's head would be the table's."""
    tables = {key: value for key, value in values.items() if _is_table(value)}
    return {**{key: value for key, value in values.items() if key not in tables}, **tables}


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
