from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cluster.settings import Settings
from deploy import making, minio, own_sites, postgresql_programs
from deploy.errors import UserError
from deploy.overrides import Overrides
from deploy.postgresql import PostgresqlServer


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which we are nobody in particular, with programs that do nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("initdb", "postgres", "minio"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 15.3'\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(minio, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(postgresql_programs, "_PACKAGED", tmp_path / "packaged")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def chosen(data: Path, **kinds: bool) -> Settings:
    own_sites.choose(Overrides(data=data).settings(), **kinds)
    return Overrides(data=data).settings()


def test_whoever_reads_the_settings_of_the_data_folder_finds_its_databases(data: Path) -> None:
    settings = chosen(data, postgresql=True)
    ports = json.loads((data / "postgresql.json").read_text())["ports"]
    for site in settings.sites:
        assert site.database.port == ports[site.name]
        assert site.catalogue_passfile == data / "postgresql-passfile"
        assert site.objects_folder == data / f"site-{site.name}" / "objects"
    servers = own_sites.servers(settings)
    assert list(servers) == ["postgresql-a", "postgresql-b", "postgresql-c"]
    assert [server.port for server in servers.values()] == list(ports.values())
    assert len({server.data for server in servers.values()}) == 3
    assert chosen(data).sites == settings.sites


def test_a_cluster_may_have_both_kinds_of_servers(data: Path) -> None:
    settings = chosen(data, minio=True, postgresql=True)
    assert all(site.is_s3 and site.is_postgresql for site in settings.sites)
    assert len(own_sites.servers(settings)) == 6


def test_the_password_is_one_for_all_and_only_its_owner_can_read_it(data: Path) -> None:
    servers = own_sites.servers(chosen(data, postgresql=True)).values()
    (file,) = {server.passfile for server in servers if isinstance(server, PostgresqlServer)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_password_file_is_said_and_not_quoted(data: Path) -> None:
    settings = chosen(data, postgresql=True)
    (data / "postgresql-passfile").write_text("sesame")
    with pytest.raises(UserError, match="postgresql-passfile is no password file") as caught:
        own_sites.servers(settings)
    assert "sesame" not in str(caught.value)


def test_a_cluster_keeps_the_kind_of_catalogues_that_it_has(data: Path, tmp_path: Path) -> None:
    making.prepare(Overrides(data=data).settings())
    with pytest.raises(UserError, match="has its catalogues in files: leave out --catalogue"):
        chosen(data, postgresql=True)
    other = tmp_path / "other"
    chosen(other, postgresql=True)
    with pytest.raises(UserError, match="has its catalogues in PostgreSQL servers: leave out --catalogue"):
        chosen(other, postgresql=False)
    (other / "cluster.json").write_text("{}")
    with pytest.raises(UserError, match="has its sites in folders: leave out --sites"):
        chosen(other, minio=True)


def test_without_the_program_nothing_is_kept_and_what_to_do_is_said(data: Path, programs: Path) -> None:
    (programs / "postgres").unlink()
    with pytest.raises(UserError, match="`make servers`"):
        chosen(data, minio=True, postgresql=True)
    assert not data.exists()
