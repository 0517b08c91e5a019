from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from cluster.settings import Settings
from deploy import making, minio, own_servers, own_sites
from deploy.errors import UserError
from deploy.minio import MinioServer, RootCredentials
from deploy.overrides import Overrides
from deploy.server import HOST


@pytest.fixture(autouse=True)
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "minio"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setattr(minio, "_CHECKOUT", tmp_path)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def chosen(data: Path) -> Settings:
    own_sites.choose(Overrides(data=data).settings(), minio=True)
    return Overrides(data=data).settings()


def server_of(settings: Settings, site: str) -> MinioServer:
    server = own_sites.servers(settings)[f"minio-{site}"]
    assert isinstance(server, MinioServer)
    return server


def test_whoever_reads_the_settings_of_the_data_folder_finds_its_servers(data: Path) -> None:
    settings = chosen(data)
    ports = json.loads((data / "minio.json").read_text())["ports"]
    assert [site.bucket_url for site in settings.sites] == [
        f"http://{HOST}:{ports[name]}/atria" for name in ("a", "b", "c")
    ]
    servers = own_sites.servers(settings)
    assert list(servers) == ["minio-a", "minio-b", "minio-c"]
    assert [server.port for server in servers.values()] == list(ports.values())
    assert len({server.data for server in servers.values()}) == 3


def test_a_port_is_kept_until_somebody_else_has_it(data: Path) -> None:
    before = chosen(data).sites
    assert chosen(data).sites == before
    with socket.socket() as other:
        assert before[1].endpoint is not None
        other.bind((HOST, int(before[1].endpoint.rpartition(":")[2])))
        other.listen()
        after = chosen(data).sites
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1].endpoint != before[1].endpoint


def test_the_credentials_are_made_once_and_only_their_owner_can_read_them(data: Path) -> None:
    settings = chosen(data)
    first = server_of(settings, "a").credentials
    assert server_of(settings, "c").credentials == first
    mode = (data / "minio-credentials").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_neither_a_command_line_nor_a_repr_shows_them(data: Path) -> None:
    server = server_of(chosen(data), "a")
    shown = f"{server.command()} {server.credentials!r}"
    assert server.credentials.secret_key not in shown


def test_the_servers_get_nothing_else_of_our_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_IDENTITY_OPENID_CONFIG_URL", "http://elsewhere")
    assert set(server_of(chosen(data), "a").environment()) == {
        "HOME",
        "PATH",
        "MINIO_ROOT_USER",
        "MINIO_ROOT_PASSWORD",
        "MINIO_BROWSER",
        "MINIO_UPDATE",
    }


def test_a_cluster_whose_sites_are_folders_keeps_them(data: Path) -> None:
    making.prepare(Overrides(data=data).settings())
    with pytest.raises(UserError, match="has its sites in folders"):
        chosen(data)
    assert own_sites.servers(Overrides(data=data).settings()) == {}


def test_sites_that_the_settings_name_stand_above_those_of_the_data_folder(
    data: Path, tmp_path: Path
) -> None:
    chosen(data)
    config = tmp_path / "atria.toml"
    config.write_text(
        "".join(
            f'[[sites]]\nname = "{name}"\nobjects = "file:///srv/{name}"\n'
            f'catalogue = "sqlite:////srv/{name}.sqlite"\n'
            for name in "abc"
        )
    )
    settings = Overrides(config=config, data=data).settings()
    assert settings.sites[0].objects == "file:///srv/a"
    assert own_sites.servers(settings) == {}
    with pytest.raises(UserError, match="the settings name the sites"):
        own_sites.choose(settings, minio=True)


@pytest.mark.parametrize("text", ["", "{}", '{"ports": {"a": 1}}', '{"ports": {"a": "x", "b": 1, "c": 1}}'])
def test_a_damaged_note_of_the_ports_is_said(data: Path, text: str) -> None:
    data.mkdir()
    (data / "minio.json").write_text(text)
    with pytest.raises(UserError, match=r"minio\.json is damaged"):
        Overrides(data=data).settings()


def test_without_the_program_nothing_is_made_and_what_to_do_is_said(data: Path, binary: Path) -> None:
    binary.unlink()
    with pytest.raises(UserError, match=r"make servers.*minio_binary"):
        chosen(data)
    assert not data.exists()


def test_the_program_is_that_of_the_settings_or_that_which_was_built_or_that_of_path(
    tmp_path: Path, binary: Path
) -> None:
    assert minio.find_binary() == binary
    built = tmp_path / "servers" / "minio"
    built.parent.mkdir()
    built.touch(0o755)
    assert minio.find_binary() == built
    assert minio.find_binary(binary) == binary
    with pytest.raises(UserError, match=r"^minio_binary: /no/minio is no program"):
        minio.find_binary(Path("/no/minio"))


def test_a_number_that_another_process_was_given_since_is_no_server(data: Path) -> None:
    settings = chosen(data)
    own_servers.pid_file(settings, "minio-a").write_text(f"{os.getpid()}\n")
    assert own_sites.running(settings) == ()


def test_a_damaged_credentials_file_is_said_and_not_quoted(data: Path) -> None:
    settings = chosen(data)
    (data / "minio-credentials").write_text("sesame")
    with pytest.raises(UserError, match="minio-credentials is no AWS shared credentials file") as caught:
        own_sites.servers(settings)
    assert "sesame" not in str(caught.value)


def test_credentials_that_cannot_be_read_are_an_error_and_not_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\n")
    with pytest.raises(KeyError):
        RootCredentials.kept(file)
    assert file.read_text() == "[default]\n"
