"""The pure parts of an S3 site: what errors say, what answers hold, how much room there is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from storage_node.site import s3_xml
from storage_node.site.protocol import ListedObject, ObjectFault, ObjectMissing, SiteFull, SiteUnavailable
from storage_node.site.s3_errors import Refusal, failure, failure_of_all
from storage_node.site.s3_location import Credentials, S3Location
from storage_node.site.s3_space import usable_bytes

LOCATION = S3Location("https://s3.example:9000", "images")


@pytest.mark.parametrize(
    ("refusal", "kind", "names"),
    [
        (Refusal(404, "NoSuchKey"), ObjectMissing, "s/x"),
        (Refusal(404, "NoSuchVersion"), ObjectMissing, "s/x"),
        (Refusal(404, "NoSuchBucket"), SiteUnavailable, "objects"),
        (Refusal(403, "AccessDenied"), SiteUnavailable, "see credentials_file"),
        (Refusal(403, "SignatureDoesNotMatch"), SiteUnavailable, "see credentials_file"),
        (Refusal(401, ""), SiteUnavailable, "see credentials_file"),
        (Refusal(403, "RequestTimeTooSkewed", clock_offset_s=-901.2), SiteUnavailable, "901 s, it is behind"),
        (Refusal(403, "RequestTimeTooSkewed"), SiteUnavailable, "clock"),
        (Refusal(400, "AuthorizationHeaderMalformed", region="eu-1"), SiteUnavailable, "eu-1.*see region"),
        (Refusal(301, "PermanentRedirect"), SiteUnavailable, "see region"),
        (Refusal(507, "XMinioStorageFull"), SiteFull, "no room"),
        (Refusal(507, ""), SiteFull, "no room"),
        (Refusal(400, "XMinioAdminBucketQuotaExceeded"), SiteFull, "no room"),
        (Refusal(500, "InternalError", "cause(no space left on device)"), SiteFull, "no room"),
        (Refusal(503, "XMinioServerNotInitialized"), SiteUnavailable, "not ready"),
        (Refusal(503, ""), SiteUnavailable, "see endpoint"),
        (Refusal(500, "InternalError", "file is corrupted"), ObjectFault, "s/x.*500.*corrupted"),
        (Refusal(503, "SlowDownWrite"), ObjectFault, "s/x"),
        (Refusal(400, "IncompleteBody"), ObjectFault, "s/x"),
        (Refusal(400, "XAmzContentSHA256Mismatch"), ObjectFault, "s/x"),
        (Refusal(400, "KeyTooLongError"), ObjectFault, "s/x"),
    ],
)
def test_a_refusal_is_told_as_the_objects_or_the_sites(
    refusal: Refusal, kind: type[Exception], names: str
) -> None:
    told = failure("north", LOCATION, refusal, "s/x")
    assert type(told) is kind
    with pytest.raises(kind, match=names):
        raise told
    of_all = failure_of_all("north", LOCATION, refusal)
    assert isinstance(of_all, SiteUnavailable)
    assert str(of_all).startswith("site north: ")


def test_what_is_written_cannot_be_missing() -> None:
    told = failure("north", LOCATION, Refusal(404, "NoSuchKey"), "s/x", writing=True)
    assert isinstance(told, ObjectFault)


def test_what_may_not_be_removed_is_that_objects_fault() -> None:
    """It is under a lock; or who asks may not remove anything, and reads and writes as before."""
    told = failure("north", LOCATION, Refusal(403, "AccessDenied"), "s/x", removing=True)
    assert isinstance(told, ObjectFault)


def test_a_location_is_said_as_requests_need_it() -> None:
    assert LOCATION.bucket_host == "s3.example:9000"
    assert LOCATION.path("1.2/%2E~a b/é.dcm") == "/images/1.2/%252E~a%20b/%C3%A9.dcm"
    hosted = S3Location("https://s3.example:443", "images", path_style=False)
    assert (hosted.host, hosted.bucket_host) == ("s3.example", "images.s3.example")
    assert hosted.path("1/x") == "/1/x"
    assert S3Location("http://[::1]:9000", "b").host == "[::1]:9000"


def test_credentials_show_nothing() -> None:
    assert repr(Credentials("ACCESS", "SECRET", "TOKEN")) == "Credentials()"


def test_a_listing_is_read_with_and_without_a_namespace() -> None:
    for attribute in (b"", b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'):
        page = s3_xml.list_page(
            b'<?xml version="1.0"?><ListBucketResult' + attribute + b"><IsTruncated>true</IsTruncated>"
            b"<NextContinuationToken>t</NextContinuationToken>"
            b"<Contents><Key>a%252E/x+y</Key><Size>3</Size>"
            b"<LastModified>2026-11-21T23:00:00.000Z</LastModified></Contents>"
            b"<CommonPrefixes><Prefix>1.2%2F</Prefix></CommonPrefixes></ListBucketResult>"
        )
        at = datetime(2026, 11, 21, 23, tzinfo=UTC)
        assert page == s3_xml.ListPage((ListedObject("a%2E/x y", 3, at),), ("1.2",), "t")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<ListBucketResult",
        b"<Other/>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
    ],
)
def test_what_is_no_listing_is_told(content: bytes) -> None:
    with pytest.raises(s3_xml.NoS3Answer):
        s3_xml.list_page(content)


def test_versions_are_in_their_order_with_delete_markers_among_them() -> None:
    page = s3_xml.versions_page(
        b"<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
        b"<NextVersionIdMarker>2</NextVersionIdMarker>"
        b"<DeleteMarker><Key>k</Key><VersionId>3</VersionId></DeleteMarker>"
        b"<Version><Key>k</Key><VersionId>2</VersionId></Version></ListVersionsResult>"
    )
    assert [version.version_id for version in page.versions] == ["3", "2"]
    assert (page.next_key, page.next_version_id) == ("k", "2")


def test_errors_are_read_and_anything_else_is_none() -> None:
    assert s3_xml.error_of(b"<Error><Code>C</Code><Message>M</Message></Error>") == ("C", "M", "")
    for content in (b"", b"<html/>", b"<html>", b"{}"):
        assert s3_xml.error_of(content) == ("", "", "")


def storage_info(*drives: tuple[int, int], data: int, drives_per_set: int) -> bytes:
    """Return what MinIO says of one pool whose drives have so much room, in sets of this make."""
    disks = [{"state": "ok", "pool_index": pool, "availspace": room} for pool, room in drives]
    backend = {"StandardSCData": [data] * 9, "DrivesPerSet": [drives_per_set] * 9, "StandardSCParities": None}
    return json.dumps({"Disks": disks, "Backend": backend}).encode()


def test_room_is_what_fits_until_the_fullest_drive_is_full() -> None:
    assert usable_bytes(storage_info((0, 1000), data=1, drives_per_set=1)) == 1000
    four = [(0, 1000), (0, 400), (0, 1000), (0, 1000)]
    assert usable_bytes(storage_info(*four, data=2, drives_per_set=4)) == 800
    assert usable_bytes(storage_info((0, 1000), (1, 500), data=1, drives_per_set=1)) == 1500


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"Disks": 1, "Backend": {}}', b"<html/>"])
def test_room_that_is_not_told_is_not_known(content: bytes) -> None:
    assert usable_bytes(content) is None
