"""Sites that are buckets: what their settings mean for `storage_node.site.s3`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy.credentials import SiteCredentials
from deploy.errors import UserError
from storage_node.site.protocol import SiteUnavailable
from storage_node.site.s3_location import S3Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.nouns import SiteIdentity
    from cluster.settings import Site
    from storage_node.site.s3 import S3Objects
    from storage_node.site.s3_location import Credentials


def open_objects(site: Site, identity: SiteIdentity) -> S3Objects:
    """Open a site's bucket. One that is not there, or refuses, is so only when it is asked something."""
    from storage_node.site.s3 import S3Objects

    return S3Objects(site.name, location(site), SiteCredentials(site), identity)


def held(site: Site) -> SiteIdentity | None:
    """Return whose a site's bucket is; None if there is none, or it is empty. Blocks.

    Raises
    ------
    UserError
        It cannot be asked, or holds something else.
    """
    from storage_node.site import s3_bucket

    with _told(site):
        return s3_bucket.held(location(site), SiteCredentials(site)(), site.name)


def make(site: Site, identity: SiteIdentity) -> None:
    """Make a site's bucket. Blocks.

    Raises
    ------
    UserError
        It cannot be made, or holds something else.
    """
    from storage_node.site import s3_bucket

    _do(site, identity, s3_bucket.init)


def renew(site: Site, identity: SiteIdentity) -> None:
    """Give a site's bucket a higher generation, or make it. Blocks.

    Raises
    ------
    UserError
        It cannot be made, or holds something else.
    """
    from storage_node.site import s3_bucket

    _do(site, identity, s3_bucket.renew)


def may_renew(site: Site, identity: SiteIdentity) -> None:
    """Find out whether a site's bucket can be given that generation. Blocks.

    Raises
    ------
    UserError
        It cannot be asked, or holds something else.
    """
    from storage_node.site import s3_bucket

    _do(site, identity, s3_bucket.may_renew)


def problems(site: Site) -> list[str]:
    """Return what of a bucket's settings is not as the site's settings want it, a line each. Blocks.

    Raises
    ------
    SiteUnavailable
        It is not there, cannot be asked, or refuses.
    """
    from storage_node.site import s3_bucket

    return s3_bucket.check(
        location(site),
        SiteCredentials(site)(),
        site.name,
        require_versioning=site.require_versioning,
        require_object_lock=site.require_object_lock,
    )


def location(site: Site) -> S3Location:
    """Return where a site's bucket is."""
    assert site.endpoint is not None
    return S3Location(
        endpoint=site.endpoint.rstrip("/"),
        bucket=site.bucket,
        region=site.region,
        path_style=site.path_style,
        ca_file=None if site.ca_file is None else site.ca_file.expanduser(),
    )


def _do(
    site: Site, identity: SiteIdentity, what: Callable[[S3Location, Credentials, SiteIdentity], None]
) -> None:
    with _told(site):
        what(location(site), SiteCredentials(site)(), identity)


@contextmanager
def _told(site: Site) -> Iterator[None]:
    from storage_node.site.s3_bucket import BucketTaken

    try:
        yield
    except BucketTaken as error:
        raise UserError(f"site {site.name}: {error}: choose another (objects, endpoint)") from error
    except SiteUnavailable as error:
        raise UserError(str(error)) from error
