from __future__ import annotations

import ssl
import stat
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from typer.testing import CliRunner

from cluster.settings import load
from deploy.command.main import build
from deploy.errors import UserError
from deploy.render import cluster_file, host_settings, tree
from deploy.render.certificates import CERTIFICATE_TIME

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SITES = {"s1": "a", "s2": "b", "s3": "c"}


def described(**changes: object) -> dict[str, Any]:
    """Two balancers, and three hosts with all that a site has."""
    balancers = [{"name": f"lb{n}", "address": f"10.0.0.{n}", "balancer": True} for n in (1, 2)]
    nodes = [
        {
            "name": name,
            "address": f"10.0.1.{number}",
            "site": site,
            "workers": 2,
            **dict.fromkeys(("upkeep", "etcd", "objects", "catalogue"), True),
        }
        for number, (name, site) in enumerate(SITES.items(), start=1)
    ]
    return {
        "service": {"address": "10.0.0.100", "interface": "eth0"},
        "sites": [{"name": site} for site in SITES.values()],
        "hosts": [*balancers, *nodes],
        **changes,
    }


def with_host(name: str, /, **changes: object) -> dict[str, Any]:
    hosts = [{**host, **changes} if host["name"] == name else host for host in described()["hosts"]]
    return described(hosts=hosts)


def written(folder: Path, values: Mapping[str, Any]) -> Path:
    file = folder / "cluster.toml"
    file.write_text(tomlkit.dumps(values))
    return file


def loaded(folder: Path, values: Mapping[str, Any] | None = None) -> cluster_file.Cluster:
    return cluster_file.load(written(folder, values or described()))


def rendered(folder: Path, values: Mapping[str, Any] | None = None, now: datetime = NOW) -> Path:
    out = folder / "out"
    cluster = loaded(folder, values)
    tree.write(out, tree.plan(cluster, out, now))
    return out


def content(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_each_host_has_settings_that_its_processes_take(tmp_path: Path) -> None:
    out = rendered(tmp_path)
    settings = {name: load(out / name / "atria.toml") for name in ("lb1", "lb2", *SITES)}
    assert settings["lb1"].service == settings["s2"].service
    assert settings["lb1"].link.is_given
    assert not settings["s1"].link.is_given
    assert [str(network) for network in settings["s1"].worker.balancers] == ["10.0.0.1/32", "10.0.0.2/32"]
    assert settings["s2"].sites[0].endpoint == "http://10.0.1.2:9000"


def test_a_host_has_what_is_near_to_it_first(tmp_path: Path) -> None:
    settings = host_settings.settings(loaded(tmp_path), loaded(tmp_path).hosts[3])
    assert settings.site == "b"
    assert [site.name for site in settings.sites] == ["b", "a", "c"]
    assert settings.etcd.endpoints[0] == "https://10.0.1.2:2379"


def test_rendering_again_changes_nothing(tmp_path: Path) -> None:
    before = content(rendered(tmp_path))
    assert content(rendered(tmp_path, now=NOW + timedelta(days=30))) == before


def test_two_folders_differ_in_nothing_but_what_is_secret(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one, other = content(rendered(tmp_path / "1")), content(rendered(tmp_path / "2"))
    differing = {Path(name).parent.name for name in one if one[name] != other[name]}
    names = {Path(name).name for name in one if one[name] != other[name] and Path(name).parent.name in SITES}
    assert differing == {"ca", "secrets", "tls", *SITES}
    assert names == {"minio-credentials", "minio.env", "postgresql-passfile", "postgresql-password"}


def test_a_ca_is_never_replaced_and_its_certificates_are_when_they_grow_old(tmp_path: Path) -> None:
    before = content(rendered(tmp_path))
    after = content(rendered(tmp_path, now=NOW + CERTIFICATE_TIME * 0.7))
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if "/tls/" in name and not name.endswith("-ca.pem")
    }


def test_a_host_that_got_another_address_gets_another_certificate(tmp_path: Path) -> None:
    before = content(rendered(tmp_path))
    after = content(rendered(tmp_path, with_host("s1", address="10.0.1.77")))
    changed = {name for name in before if "/tls/" in name and before[name] != after[name]}
    assert changed == {"s1/tls/etcd.pem", "s1/tls/etcd.key"}


def test_half_a_ca_is_refused_and_not_made_anew(tmp_path: Path) -> None:
    out = rendered(tmp_path)
    (out / "ca" / "etcd.key").unlink()
    with pytest.raises(UserError, match="put good copies back"):
        rendered(tmp_path)
    assert not (out / "ca" / "etcd.key").exists()


def test_what_is_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    out = rendered(tmp_path)
    open_to_others = {
        str(file.relative_to(out))
        for file in out.rglob("*")
        if file.is_file() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    }
    secret = {"minio-credentials", "minio.env", "postgresql-passfile", "postgresql-password"}
    assert not [name for name in open_to_others if Path(name).name in secret or name.endswith(".key")]


def test_a_host_holds_no_secret_that_it_has_no_use_for(tmp_path: Path) -> None:
    out = rendered(tmp_path)
    assert not (out / "lb1" / "minio-credentials").exists()
    assert not (out / "lb1" / "postgresql-passfile").exists()
    assert not (out / "s1" / "tls" / "link.key").exists()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def context(out: Path, host: str, name: str, ca: str, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(out / host / "tls" / f"{ca}-ca.pem")
    context.load_cert_chain(out / host / "tls" / f"{name}.pem", out / host / "tls" / f"{name}.key")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_balancers_know_each_other_by_name_and_nobody_else(tmp_path: Path) -> None:
    out = rendered(tmp_path, now=datetime.now(UTC))
    server = context(out, "lb2", "link", "link", ssl.PROTOCOL_TLS_SERVER)
    client = context(out, "lb1", "link", "link", ssl.PROTOCOL_TLS_CLIENT)
    handshake(server, client, "lb2")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "lb1")
    stranger = context(out, "s1", "etcd-client", "etcd", ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(out / "lb1" / "tls" / "link-ca.pem")
    with pytest.raises(ssl.SSLError):
        handshake(server, stranger, "lb2")


def test_the_units_start_what_the_host_is_for(tmp_path: Path) -> None:
    out = rendered(tmp_path)
    target = (out / "s1" / "systemd" / "atria.target").read_text()
    assert [line for line in target.splitlines() if line.startswith("Wants=")] == [
        f"Wants={name}.service"
        for name in (
            "atria-postgresql",
            "atria-minio",
            "etcd",
            "atria-upkeep",
            "atria-worker@1",
            "atria-worker@2",
        )
    ]
    worker = (out / "s1" / "systemd" / "atria-worker@.service").read_text()
    assert "--name=s1-worker-%i\n" in worker
    assert "RestartPreventExitStatus=" in worker
    balancer = (out / "lb1" / "systemd" / "atria-balancer.service").read_text()
    assert "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE\n" in balancer
    assert "AmbientCapabilities" not in worker
    assert "CapabilityBoundingSet=\n" in worker
    assert "ProtectKernelTunables=yes\n" in balancer


def test_systemd_waits_longer_than_associations_may_go_on(tmp_path: Path) -> None:
    out = rendered(tmp_path, described(settings={"drain_timeout_s": 600}))
    assert "TimeoutStopSec=630\n" in (out / "lb1" / "systemd" / "atria-balancer.service").read_text()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (with_host("s1", etcd=False), "expected 3, 5 or 7 with etcd, or its endpoints"),
        (with_host("s1", address="10.0.1.2"), "each needs a address of its own, found 10.0.1.2 twice"),
        (with_host("s1", address="fd00::1"), "hosts: address: expected all IPv4 or all IPv6, found both"),
        (with_host("s1", name="s2"), "each needs a name of its own, found s2 twice"),
        (with_host("s1", site="z"), "host s1: site: expected one of a, b, c, found z"),
        (with_host("s1", objects=False), "site a: objects: expected one host with objects, or where"),
        (with_host("s1", address="10.0.0.100"), "service.address: 10.0.0.100 is a host's own"),
        (with_host("s1", etdc=True), "hosts.2.etdc: there is no such setting"),
        (with_host("s1", settings={"dicom": {"host": "0.0.0.0"}}), "dicom.host is worked out from the hosts"),
        (with_host("s1", settings={"limits": {"associations": 0}}), "host s1: limits.associations"),
        (described(settings={"site": "a"}), "settings: site is worked out"),
        (described(etcd={"heartbeat_ms": 300}), "at least five times heartbeat_ms"),
        (described(hosts=[]), "hosts: "),
        (described(install={"config": "relative"}), "config: expected an absolute folder"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_line_and_nothing_is_made(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        rendered(tmp_path, values)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_sites_may_have_servers_that_are_no_host_of_the_cluster(tmp_path: Path) -> None:
    values = with_host("s1", objects=False, catalogue=False)
    catalogue = "postgresql://atria@db.example:5432/atria"
    values["sites"][0] |= {"objects": "s3://mine", "endpoint": "https://s3.example", "catalogue": catalogue}
    settings = load(rendered(tmp_path, values) / "s1" / "atria.toml")
    assert settings.sites[0].endpoint == "https://s3.example"
    assert settings.sites[0].credentials_file is None


def test_a_folder_is_no_site_of_several_hosts(tmp_path: Path) -> None:
    values = with_host("s1", objects=False)
    values["sites"][0]["objects"] = "file:///srv/objects"
    with pytest.raises(UserError, match="site a: objects: expected a server that all hosts reach, found"):
        loaded(tmp_path, values)


def command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(build(), ["deploy", "render", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_check_tells_what_differs_and_writes_nothing(tmp_path: Path) -> None:
    file, out = written(tmp_path, described()), tmp_path / "out"
    assert command(file, "--out", out, "--check")[0] == 1
    assert not out.exists()
    assert command(file, "--out", out)[0] == 0
    assert command(file, "--out", out, "--check") == (0, "Nothing differs.\n")
    assert command(file, "--out", out, "--check", "--json") == (0, '{"differences": []}\n')
    (out / "s1" / "etcd.yml").write_text("")
    (out / "s2" / "atria.toml").unlink()
    (out / "s3" / "tls" / "etcd.key").chmod(0o644)
    before = content(out)
    code, said = command(file, "--out", out, "--check")
    assert code == 1
    assert said.splitlines() == [
        "s1/etcd.yml: differs",
        "s2/atria.toml: is missing",
        "s3/tls/etcd.key: differs",
    ]
    assert content(out) == before


def test_what_is_not_rendered_any_more_is_told(tmp_path: Path) -> None:
    command(written(tmp_path, described()), "--out", tmp_path / "out")
    code, said = command(
        written(tmp_path, with_host("s1", upkeep=False)), "--out", tmp_path / "out", "--check"
    )
    assert code == 1
    assert "s1/systemd/atria-upkeep.service: is not rendered any more" in said


def test_a_host_that_is_one_no_more_is_told(tmp_path: Path) -> None:
    command(written(tmp_path, described()), "--out", tmp_path / "out")
    (tmp_path / "out" / ".git").mkdir()
    hosts = [host for host in described()["hosts"] if host["name"] != "lb2"]
    file = written(tmp_path, described(hosts=hosts))
    code, said = command(file, "--out", tmp_path / "out", "--check")
    assert (code, "lb2: is not rendered any more" in said, ".git" in said) == (1, True, False)
    assert (
        f"{tmp_path / 'out' / 'lb2'} is not rendered any more" in command(file, "--out", tmp_path / "out")[1]
    )


def test_the_etcd_members_find_each_other(tmp_path: Path) -> None:
    text = (rendered(tmp_path) / "s2" / "etcd.yml").read_text()
    assert (
        "initial-cluster: s1=https://10.0.1.1:2380,s2=https://10.0.1.2:2380,s3=https://10.0.1.3:2380" in text
    )
    assert "heartbeat-interval: 50\nelection-timeout: 500\n" in text


def test_the_file_is_toml_with_plain_values_first(tmp_path: Path) -> None:
    out = rendered(tmp_path, described(settings={"drain_timeout_s": 7, "peers": [{"ae_title": "CT"}]}))
    values = tomllib.loads((out / "s1" / "atria.toml").read_text())
    assert values["drain_timeout_s"] == 7
    assert values["peers"] == [{"ae_title": "CT"}]
