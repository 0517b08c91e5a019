"""Making a bucket a site, and looking whether it still is as a site's should be.

This is rare, and done before anything runs, so it is by the MinIO SDK, which blocks: call it in a thread.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final

import urllib3
from minio import Minio, S3Error
from minio.commonconfig import ENABLED, Filter
from minio.error import MinioException
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    Expiration,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.versioningconfig import VersioningConfig

from storage_node.site.identity import IDENTITY_FILE, identity_content, read_identity
from storage_node.site.protocol import SiteUnavailable
from storage_node.site.s3_errors import Refusal, failure_of_all
from storage_node.site.s3_tls import trust

if TYPE_CHECKING:
    from cluster.nouns import SiteIdentity
    from storage_node.site.s3_location import Credentials, S3Location

NONCURRENT_DAYS: Final = 7
"""How long a version is kept that another has replaced."""
UNFINISHED_DAYS: Final = 2
"""How long an upload is kept that nobody finishes."""

_TIMEOUT: Final = urllib3.Timeout(connect=3.0, read=15.0)
_NO_SUCH = frozenset({"NoSuchKey", "NoSuchBucket"})


class BucketTaken(Exception):
    """The bucket holds something already, so it is not made this site's. The message is for the operator."""


def init(location: S3Location, credentials: Credentials, identity: SiteIdentity) -> None:
    """Make a bucket, unless it is there, and make it a new site. Harmless when it was made one already.

    It gets object lock, versioning, and a lifecycle by which non-current versions and unfinished uploads
    expire. One that holds anything but this very site is not touched.

    Raises
    ------
    BucketTaken
        It holds something else, or another site.
    SiteUnavailable
        It cannot be asked, or refuses.
    """
    with _asking(location, credentials, identity.name) as client:
        found = _look(client, location)
        if found is not None and found != identity:
            raise BucketTaken(f"{location} is that of site {found.name} ({found.site_id}) already")
        _make(client, location, identity)


def renew(location: S3Location, credentials: Credentials, identity: SiteIdentity) -> None:
    """Give a site a higher generation, or make it in a bucket that is empty or not there.

    What the bucket holds stays: whoever fills the site finds out what of it is sound.

    Raises
    ------
    BucketTaken, SiteUnavailable
        As `may_renew` does.
    """
    with _asking(location, credentials, identity.name) as client:
        _refuse_other(client, location, identity)
        _make(client, location, identity)


def may_renew(location: S3Location, credentials: Credentials, identity: SiteIdentity) -> None:
    """Find out whether `renew` would take the bucket; nothing is written.

    Raises
    ------
    BucketTaken
        It holds something else, another site, or this one in a later generation.
    SiteUnavailable
        It cannot be asked, or refuses.
    """
    with _asking(location, credentials, identity.name) as client:
        _refuse_other(client, location, identity)


def held(location: S3Location, credentials: Credentials, site: str) -> SiteIdentity | None:
    """Return whose a bucket is; None if it is empty, or not there.

    Raises
    ------
    BucketTaken
        It holds something that is no site.
    SiteUnavailable
        It cannot be asked, or refuses.
    """
    with _asking(location, credentials, site) as client:
        return _look(client, location)


def check(
    location: S3Location,
    credentials: Credentials,
    site: str,
    *,
    require_versioning: bool = True,
    require_object_lock: bool = True,
) -> list[str]:
    """Return what of a bucket's settings is not as it should be, a line each that names site and setting.

    Raises
    ------
    SiteUnavailable
        It is not there, cannot be asked, or refuses.
    """
    wrong: list[str] = []
    with _asking(location, credentials, site) as client:
        if require_versioning and client.get_bucket_versioning(location.bucket).status != ENABLED:
            wrong.append(
                f"site {site}: {location} is not versioned: enable it, or set require_versioning = false"
            )
        if require_object_lock and not _has_object_lock(client, location):
            wrong.append(
                f"site {site}: {location} has no object lock: make it anew with it,"
                " or set require_object_lock = false"
            )
    return wrong


def _refuse_other(client: Minio, location: S3Location, identity: SiteIdentity) -> None:
    found = _look(client, location)
    is_earlier = (
        found is not None and found.site_id == identity.site_id and found.generation < identity.generation
    )
    if found is not None and found != identity and not is_earlier:
        what = f"site {found.name} ({found.site_id}, generation {found.generation})"
        raise BucketTaken(f"{location} is that of {what} already")


def _look(client: Minio, location: S3Location) -> SiteIdentity | None:
    """Return whose the bucket is, or None when it is nobody's.

    Raises
    ------
    BucketTaken
        It is nobody's, and holds something.
    """
    try:
        response = client.get_object(location.bucket, IDENTITY_FILE)
    except S3Error as error:
        if error.code not in _NO_SUCH:
            raise
    else:
        with response:
            found = read_identity(response.read())
        if found is None:
            raise BucketTaken(f"{location} holds an {IDENTITY_FILE} that is damaged")
        return found
    if not client.bucket_exists(location.bucket):
        return None
    if any(True for _ in client.list_objects(location.bucket, recursive=True, include_version=True)):
        raise BucketTaken(f"{location} holds objects that are no site's")
    return None


def _make(client: Minio, location: S3Location, identity: SiteIdentity) -> None:
    bucket = location.bucket
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket, location.region, object_lock=True)
    if client.get_bucket_versioning(bucket).status != ENABLED:
        client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    client.set_bucket_lifecycle(bucket, _lifecycle())
    content = identity_content(identity)
    client.put_object(bucket, IDENTITY_FILE, BytesIO(content), len(content), "application/json")


def _lifecycle() -> LifecycleConfig:
    return LifecycleConfig(
        [
            Rule(
                status=ENABLED,
                rule_id="atria-replaced",
                rule_filter=Filter(prefix=""),
                noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=NONCURRENT_DAYS),
                expiration=Expiration(expired_object_delete_marker=True),
                abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(UNFINISHED_DAYS),
            )
        ]
    )


def _has_object_lock(client: Minio, location: S3Location) -> bool:
    try:
        client.get_object_lock_config(location.bucket)
    except S3Error as error:
        if error.code == "ObjectLockConfigurationNotFoundError":
            return False
        raise
    return True


@contextmanager
def _asking(location: S3Location, credentials: Credentials, site: str) -> Iterator[Minio]:
    """Give a client, and tell its errors as the site's."""
    pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False, ssl_context=trust(site, location))
    try:
        client = Minio(
            location.host,
            credentials.access_key,
            credentials.secret_key,
            credentials.session_token,
            secure=location.secure,
            region=location.region,
            http_client=pool,
        )
        if not location.path_style:
            client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # of the SDK
        yield client
    except S3Error as error:
        refusal = Refusal(error.response.status, error.code or "", error.message or "")
        raise failure_of_all(site, location, refusal) from error
    except (ssl.SSLError, urllib3.exceptions.SSLError) as error:
        reason = f"{location.endpoint} does not speak TLS, or is not trusted: see endpoint and ca_file"
        raise SiteUnavailable(site, reason) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise SiteUnavailable(site, f"{location.endpoint} cannot be reached: see endpoint") from error
    except (MinioException, ValueError) as error:
        reason = f"{location.endpoint} does not answer as an S3 service does: see endpoint and objects"
        raise SiteUnavailable(site, reason) from error
    finally:
        pool.clear()
