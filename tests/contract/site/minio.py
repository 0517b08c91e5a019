"""Buckets in a real MinIO server, each a site of its own."""

from __future__ import annotations

import secrets
import uuid

from cluster.nouns import SiteIdentity
from deploy.minio import MinioServer
from storage_node.site import s3_bucket
from storage_node.site.s3 import S3Objects
from storage_node.site.s3_location import Credentials, S3Location


def credentials(server: MinioServer) -> Credentials:
    return Credentials(server.credentials.access_key, server.credentials.secret_key)


def new_location(server: MinioServer) -> S3Location:
    """Return where a bucket is that is not there yet."""
    return S3Location(server.endpoint, f"atria-{secrets.token_hex(8)}")


def new_identity(name: str = "a") -> SiteIdentity:
    return SiteIdentity(name, str(uuid.uuid4()), 1)


def new_site(
    server: MinioServer, identity: SiteIdentity | None = None, location: S3Location | None = None
) -> S3Objects:
    """Make a bucket a site, and open it."""
    identity = identity or new_identity()
    location = location or new_location(server)
    s3_bucket.init(location, credentials(server), identity)
    return S3Objects(identity.name, location, lambda: credentials(server), identity)
