"""Making a bucket a site, by a real MinIO server: never in one that holds anything else."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig

from cluster.nouns import SiteIdentity
from deploy.minio import MinioServer
from deploy.server import free_port
from storage_node.site import s3_bucket
from storage_node.site.protocol import SiteUnavailable
from storage_node.site.s3 import S3Objects
from storage_node.site.s3_bucket import BucketTaken
from storage_node.site.s3_location import Credentials, S3Location
from tests.contract.site.minio import credentials, new_identity, new_location

Make = Callable[[S3Location, Credentials, SiteIdentity], None]


@pytest.fixture
def client(minio: MinioServer) -> Minio:
    known = credentials(minio)
    return Minio(f"127.0.0.1:{minio.port}", known.access_key, known.secret_key, secure=False)


@pytest.fixture
def location(minio: MinioServer) -> S3Location:
    return new_location(minio)


@pytest.fixture
def known(minio: MinioServer) -> Credentials:
    return credentials(minio)


async def identity_in(location: S3Location, known: Credentials, expected: SiteIdentity) -> SiteIdentity:
    objects = S3Objects(expected.name, location, lambda: known, expected)
    try:
        return await objects.identity()
    finally:
        await objects.close()


async def test_a_new_bucket_has_all_that_a_site_wants(
    client: Minio, location: S3Location, known: Credentials
) -> None:
    identity = new_identity()
    s3_bucket.init(location, known, identity)
    assert s3_bucket.check(location, known, "a") == []
    lifecycle = client.get_bucket_lifecycle(location.bucket)
    assert lifecycle is not None
    (expires,) = [rule.noncurrent_version_expiration for rule in lifecycle.rules]
    assert expires is not None
    assert expires.noncurrent_days == s3_bucket.NONCURRENT_DAYS
    s3_bucket.init(location, known, identity)
    assert await identity_in(location, known, identity) == identity


@pytest.mark.parametrize("make", [s3_bucket.init, s3_bucket.renew])
async def test_a_bucket_of_another_site_is_not_touched(
    location: S3Location, known: Credentials, make: Make
) -> None:
    identity = new_identity()
    s3_bucket.init(location, known, identity)
    with pytest.raises(BucketTaken, match=f"site {identity.name} "):
        make(location, known, new_identity("b"))
    assert await identity_in(location, known, identity) == identity


@pytest.mark.parametrize("make", [s3_bucket.init, s3_bucket.renew])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_bucket_that_holds_anything_is_not_touched(
    client: Minio, location: S3Location, known: Credentials, make: Make, deleted: bool
) -> None:
    """Not even one whose objects were deleted: their versions may be somebody's last copy."""
    client.make_bucket(location.bucket)
    client.set_bucket_versioning(location.bucket, VersioningConfig(ENABLED))
    client.put_object(location.bucket, "a/report.txt", BytesIO(b"mine"), 4)
    if deleted:
        client.remove_object(location.bucket, "a/report.txt")
    with pytest.raises(BucketTaken, match="no site's"):
        make(location, known, new_identity())
    found = client.list_objects(location.bucket, recursive=True, include_version=True)
    assert {entry.object_name for entry in found} == {"a/report.txt"}


def test_a_damaged_identity_is_not_overwritten(
    client: Minio, location: S3Location, known: Credentials
) -> None:
    client.make_bucket(location.bucket)
    client.put_object(location.bucket, "_site.json", BytesIO(b"{}"), 2)
    with pytest.raises(BucketTaken, match="damaged"):
        s3_bucket.init(location, known, new_identity())


async def test_a_site_is_renewed_with_a_higher_generation_only_and_keeps_its_objects(
    client: Minio, location: S3Location, known: Credentials
) -> None:
    first = new_identity()
    second = replace(first, generation=2)
    s3_bucket.init(location, known, first)
    client.put_object(location.bucket, "s/x", BytesIO(b"x"), 1)
    s3_bucket.renew(location, known, second)
    s3_bucket.renew(location, known, second)
    assert await identity_in(location, known, second) == second
    with pytest.raises(BucketTaken, match="generation 2"):
        s3_bucket.renew(location, known, first)
    assert client.stat_object(location.bucket, "s/x").size == 1


async def test_a_bucket_that_was_lost_is_made_anew(
    minio: MinioServer, location: S3Location, known: Credentials
) -> None:
    first = new_identity()
    s3_bucket.init(location, known, first)
    shutil.rmtree(minio.data / location.bucket)
    second = replace(first, generation=2)
    s3_bucket.renew(location, known, second)
    assert await identity_in(location, known, second) == second
    assert s3_bucket.check(location, known, "a") == []


def test_what_a_bucket_lacks_is_told_by_site_and_setting(
    client: Minio, location: S3Location, known: Credentials
) -> None:
    client.make_bucket(location.bucket)
    versioning, lock = s3_bucket.check(location, known, "north")
    assert "site north" in versioning
    assert "require_versioning" in versioning
    assert "site north" in lock
    assert "require_object_lock" in lock
    wanted = {"require_versioning": False, "require_object_lock": False}
    assert s3_bucket.check(location, known, "north", **wanted) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda location: replace(location, endpoint=f"http://127.0.0.1:{free_port()}"), "see endpoint"),
        (lambda location: replace(location, endpoint=location.endpoint.replace("http:", "https:")), "TLS"),
        (lambda location: replace(location, bucket=f"none-{secrets.token_hex(4)}"), "no bucket.*see objects"),
        (
            lambda location: replace(
                location, endpoint="https://127.0.0.1:1", ca_file=Path("/nonexistent/ca.pem")
            ),
            "ca_file",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_line_that_names_the_setting(
    location: S3Location, known: Credentials, change: Callable[[S3Location], S3Location], told: str
) -> None:
    with pytest.raises(SiteUnavailable, match=told) as error:
        s3_bucket.check(change(location), known, "north")
    assert str(error.value).startswith("site north: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [Credentials("nobody", "not-the-secret-0123"), Credentials("", "")])
def test_refused_credentials_are_told_and_not_shown(location: S3Location, wrong: Credentials) -> None:
    with pytest.raises(SiteUnavailable, match="see credentials_file") as error:
        s3_bucket.init(location, wrong, new_identity())
    assert "not-the-secret" not in str(error.value)
