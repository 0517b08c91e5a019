from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio
from minio.commonconfig import ENABLED

from cluster.settings import Settings
from deploy import checks, making, record
from deploy.minio import MinioServer
from deploy.overrides import Overrides
from tests.integration.deploy.atria import atria


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with started(MinioServer(tmp_path_factory.mktemp("minio"))) as server:
        yield server


@contextmanager
def started(server: MinioServer) -> Iterator[MinioServer]:
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
def client(server: MinioServer) -> Minio:
    root = server.credentials
    return Minio(f"127.0.0.1:{server.port}", root.access_key, root.secret_key, secure=False)


class Cluster:
    """Settings of three sites, of which a and b are buckets of one server, named after the test's folder."""

    def __init__(self, folder: Path, server: MinioServer) -> None:
        self.data = folder / "data"
        self._server = server
        self.config = folder / "atria.toml"
        self._credentials = folder / "credentials"
        self.write_credentials(server.credentials.secret_key)
        number = abs(hash(str(folder)))
        self.buckets = {name: f"{name}-{number}" for name in "ab"}
        self.write()

    def write_credentials(self, secret_key: str) -> None:
        access_key = self._server.credentials.access_key
        self._credentials.write_text(
            f"[default]\naws_access_key_id={access_key}\naws_secret_access_key={secret_key}\n"
        )

    def write(self, **more: Mapping[str, object]) -> None:
        """Write the settings, in which sites have other values as given."""
        sites: dict[str, dict[str, object]] = {
            name: {
                "objects": f"s3://{bucket}",
                "endpoint": self._server.endpoint,
                "credentials_file": str(self._credentials),
            }
            for name, bucket in self.buckets.items()
        }
        sites["c"] = {"objects": f"file://{self.data}/c/objects"}
        text = ""
        for name, values in sites.items():
            catalogue = f"sqlite:///{self.data}/{name}/catalogue.sqlite"
            table = {"name": name, "catalogue": catalogue, **values, **more.get(name, {})}
            text += "[[sites]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        self.config.write_text(text)

    def site(self, *arguments: object) -> tuple[int, str]:
        """Run `atria site`, and return its exit code and what it said."""
        done = atria("site", *arguments, "--config", self.config, "--data", self.data)
        return done.returncode, done.stdout + done.stderr

    @property
    def settings(self) -> Settings:
        return Overrides(config=self.config, data=self.data).settings()

    def init(self) -> None:
        making.init(self.settings, {"a", "b", "c"})

    def problems(self, name: str) -> tuple[str, ...]:
        (found,) = asyncio.run(checks.check(self.settings, {name}))
        return found.problems


@pytest.fixture
def cluster(tmp_path: Path, server: MinioServer) -> Cluster:
    return Cluster(tmp_path, server)


def test_init_makes_versioned_buckets_with_object_lock_and_is_harmless_when_done_again(
    cluster: Cluster, client: Minio
) -> None:
    for _ in range(2):
        code, said = cluster.site("init")
        assert code == 0, said
    assert said.count("well") == 3
    for bucket in cluster.buckets.values():
        assert client.get_bucket_versioning(bucket).status == ENABLED
        assert client.get_object_lock_config(bucket) is not None
    listed = json.loads(cluster.site("list", "--json")[1])
    assert [one["identity"]["generation"] for one in listed] == [1, 1, 1]


def test_buckets_that_are_sites_already_are_used_by_a_data_folder_without_a_record(cluster: Cluster) -> None:
    cluster.init()
    before = {name: one.identity for name, one in record.of_sites(cluster.settings).items()}
    (cluster.data / record.RECORD).unlink()
    cluster.settings.sites[1].catalogue_file.unlink()
    code, said = cluster.site("init")
    assert code == 0, said
    assert said.count("already holds 0 studies, 0 instances (site id ") == 2
    assert f"site b: s3://{cluster.buckets['b']} at http://" in said
    assert "already holds objects of site b" in said
    after = record.of_sites(cluster.settings)
    assert {name: one.identity for name, one in after.items()} == before
    assert {name: one.rebuilding for name, one in after.items()} == {"a": False, "b": True, "c": False}


def test_a_bucket_that_holds_data_is_refused_and_not_touched(cluster: Cluster, client: Minio) -> None:
    bucket = cluster.buckets["b"]
    client.make_bucket(bucket)
    client.put_object(bucket, "holiday.jpg", BytesIO(b"mine"), 4)
    code, said = cluster.site("init")
    assert code == 2
    assert said.startswith("atria: site b: ")
    assert f"bucket {bucket} holds objects that are no site's" in said
    assert [one.object_name for one in client.list_objects(bucket)] == ["holiday.jpg"]
    assert client.get_bucket_versioning(bucket).status != ENABLED


def test_two_names_of_one_bucket_are_refused_when_it_is_made(cluster: Cluster, server: MinioServer) -> None:
    cluster.write(
        b={"objects": f"s3://{cluster.buckets['a']}", "endpoint": f"http://localhost:{server.port}"}
    )
    code, said = cluster.site("init")
    assert code == 2
    assert said.startswith("atria: site b: ")
    assert "is that of site a " in said


def test_a_cluster_two_sites_of_which_came_to_be_one_bucket_does_not_start(
    cluster: Cluster, server: MinioServer
) -> None:
    cluster.init()
    cluster.write(
        b={"objects": f"s3://{cluster.buckets['a']}", "endpoint": f"http://localhost:{server.port}"}
    )
    (problem,) = cluster.problems("b")
    assert problem.startswith("site b: its objects are those of site a, so that two copies would be one")
    up = atria("up", "--config", cluster.config, "--data", cluster.data, "--dicom-port=0", "--http-port=0")
    assert up.returncode == 2
    assert up.stderr.strip().splitlines()[-1] == f"atria: {problem}"


def test_a_cluster_with_a_bucket_that_was_never_made_does_not_start(cluster: Cluster) -> None:
    up = atria("up", "--config", cluster.config, "--data", cluster.data, "--dicom-port=0", "--http-port=0")
    assert up.returncode == 2
    assert "site a, b was not made to the end: do so with `atria site init`" in up.stderr


def test_what_is_wrong_with_a_bucket_is_one_line_that_names_site_and_setting(
    cluster: Cluster, client: Minio, server: MinioServer
) -> None:
    client.make_bucket(cluster.buckets["a"])  # without object lock, and made by somebody else
    cluster.init()
    (problem,) = cluster.problems("a")
    assert problem.startswith("site a: ")
    assert "has no object lock" in problem
    assert "require_object_lock" in problem
    cluster.write(a={"require_object_lock": False})
    assert cluster.problems("a") == ()

    cluster.write(a={"endpoint": "http://127.0.0.1:9"})
    (problem,) = cluster.problems("a")
    assert problem.startswith("site a: http://127.0.0.1:9 cannot be reached")
    assert "endpoint" in problem

    cluster.write(b={"credentials_profile": "pacs"})
    (problem,) = cluster.problems("b")
    assert problem.startswith("site b: credentials_file: ")
    assert "credentials_profile" in problem

    cluster.write()
    cluster.write_credentials("not the secret")
    (problem,) = cluster.problems("b")
    assert problem.startswith(f"site b: {server.endpoint}")
    assert "refuses the credentials" in problem
    assert "not the secret" not in problem


def test_sites_may_be_made_one_by_one_and_it_is_said_which_are_left(cluster: Cluster) -> None:
    code, said = cluster.site("init", "c")
    assert code == 0, said
    assert "Still to be made: a, b." in said
    code, said = cluster.site("check")
    assert code == 1
    assert "site a: it was not made to the end: go on with `atria site init a`" in said
    assert [one["made"] for one in json.loads(cluster.site("list", "--json")[1])] == [False, False, True]


def test_a_site_that_lost_its_bucket_is_told_from_one_that_is_away(cluster: Cluster, client: Minio) -> None:
    cluster.init()
    bucket = cluster.buckets["a"]
    for one in client.list_objects(bucket, include_version=True, recursive=True):
        assert one.object_name is not None
        client.remove_object(bucket, one.object_name, version_id=one.version_id)
    client.remove_bucket(bucket)
    (problem,) = cluster.problems("a")
    assert problem.endswith("see objects; if it has lost what it held: `atria site replace a`")
    cluster.write(a={"endpoint": "http://127.0.0.1:9"})
    (problem,) = cluster.problems("a")
    assert "atria site replace" not in problem


def test_a_bucket_without_object_lock_hinders_no_replacement_and_one_that_is_over_is_not_begun_anew(
    cluster: Cluster, client: Minio
) -> None:
    client.make_bucket(cluster.buckets["a"])
    cluster.init()
    cluster.settings.sites[2].catalogue_file.unlink()
    code, said = cluster.site("replace", "c", "--yes")
    assert code == 0, said
    record.change(cluster.settings, still_filling)
    for said in ("is a full member again", "has lost nothing"):
        assert cluster.site("replace", "a", "--yes")[1].count(said) == 1
    assert [one.identity.generation for one in record.of_sites(cluster.settings).values()] == [1, 1, 2]


def still_filling(records: record.Records | None) -> record.Records:
    assert records is not None
    return {**records, "a": replace(records["a"], filling=True)}


def test_a_wrong_setting_costs_no_sound_site_its_generation(cluster: Cluster, server: MinioServer) -> None:
    cluster.init()
    before = cluster.site("list", "--json")
    cluster.write(b={"endpoint": "http://127.0.0.1:9"})
    code, said = cluster.site("replace", "b", "--yes")
    assert code == 2
    assert "site b: http://127.0.0.1:9 cannot be reached" in said
    twin = {"objects": f"s3://{cluster.buckets['a']}", "endpoint": f"http://localhost:{server.port}"}
    cluster.write(b=twin)
    code, said = cluster.site("replace", "b", "--yes")
    assert code == 2
    assert "is that of site a" in said
    cluster.write()
    assert cluster.site("list", "--json") == before
    assert cluster.problems("b") == ()


def test_a_site_is_not_replaced_while_another_is_away(tmp_path: Path) -> None:
    with started(MinioServer(tmp_path / "minio")) as server:
        cluster = Cluster(tmp_path, server)
        cluster.init()
    code, said = cluster.site("check")
    assert code == 1
    assert said.count("cannot be reached") == 2
    cluster.settings.sites[2].catalogue_file.unlink()
    code, said = cluster.site("replace", "c", "--yes")
    assert code == 2
    assert "site a, b is not well, and what only it and site c hold would be lost" in said
    assert [one["filling"] for one in json.loads(cluster.site("list", "--json")[1])] == [False] * 3


def test_a_site_that_does_not_exist_is_said(cluster: Cluster) -> None:
    code, said = cluster.site("check", "z")
    assert (code, said.strip()) == (2, "atria: there is no site z: the sites are a, b, c")
