"""What an S3 site makes of answers that a real server gives seldom, or never should."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest

from storage_node.site.protocol import ObjectFault, SiteUnavailable
from storage_node.site.s3 import S3Objects
from tests.unit.site.fake_service import Asked, Call, answer, error, fake_service

UPLOAD = answer(
    "200 OK",
    b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
)


async def put(site: S3Objects) -> None:
    await site.put("s/x", [b"abc", b"def"], digest=sha256(b"abcdef").hexdigest(), metadata={})


async def get(site: S3Objects) -> bytes:
    return await site.get("s/x")


async def head(site: S3Objects) -> object:
    return await site.head("s/x")


async def listing(site: S3Objects) -> object:
    return [found.key async for found in site.list()]


async def upload(site: S3Objects) -> object:
    return await site.upload("s/x", metadata={})


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_the_sites_fault() -> None:
    """Put again, whole, on another connection: the same bytes twice are the same object."""

    def say(asked: Asked) -> bytes | None:
        return answer("200 OK", ETag="e") if asked.connection else None

    async with fake_service(say) as (site, asked):
        await put(site)
    assert [request.body for request in asked] == [b"abcdef", b"abcdef"]


async def test_an_upload_is_begun_once_more_when_the_connection_was_closed_meanwhile() -> None:
    async with fake_service(lambda asked: UPLOAD if asked.connection else None) as (site, asked):
        await upload(site)
    assert len(asked) == 2


async def test_a_service_that_hangs_up_again_and_again_is_a_site_that_is_down() -> None:
    async with fake_service(lambda _: None) as (site, _):
        for call in (put, get, head, listing, upload):
            with pytest.raises(SiteUnavailable, match="hung up"):
                await call(site)


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "SlowDownRead", "ServiceUnavailable"])
@pytest.mark.parametrize("call", [put, get, head])
async def test_an_error_that_names_no_cause_is_the_objects_fault(code: str, call: Call) -> None:
    async with fake_service(lambda _: error("503 Service Unavailable", code)) as (site, _):
        with pytest.raises(ObjectFault, match="s/x"):
            await call(site)


async def test_an_error_of_the_bucket_is_the_sites_fault() -> None:
    async with fake_service(lambda _: error("503 Service Unavailable", "SlowDown")) as (site, _):
        for call in (listing, S3Objects.free_bytes):
            with pytest.raises(SiteUnavailable, match="503"):
                await call(site)


@pytest.mark.parametrize(
    "said",
    [
        answer("502 Bad Gateway", b"<html>nginx</html>"),
        answer("404 Not Found"),
        answer("200 OK", b"<html>a portal</html>"),
        answer("200 OK", b"\xff\x00"),
        answer("301 Moved Permanently", Location="http://127.0.0.1:1/elsewhere"),
    ],
)
async def test_who_does_not_speak_s3_is_no_site(said: bytes) -> None:
    async with fake_service(lambda _: said) as (site, asked):
        for call in (listing, upload):
            with pytest.raises(SiteUnavailable, match="does not answer as an S3 service does"):
                await call(site)
    assert len(asked) == 2, "no redirect is followed: what is signed is for one host"


async def test_an_upload_whose_completion_fails_after_200_is_not_there() -> None:
    def say(asked: Asked) -> bytes:
        if "?uploads" in asked.line:
            return UPLOAD
        if "partNumber" in asked.line:
            return answer("200 OK", ETag='"e"')
        return answer("200 OK", b" \n<Error><Code>InternalError</Code><Message/></Error>")

    async with fake_service(say) as (site, asked):
        begun = await site.upload("s/x", metadata={})
        await begun.write([b"abc"])
        with pytest.raises(ObjectFault, match="InternalError"):
            await begun.complete()
        await begun.abort()
    assert asked[-1].line.startswith("DELETE "), "and it can still be aborted"


async def test_a_part_without_an_etag_is_no_part() -> None:
    async with fake_service(lambda asked: UPLOAD if "?uploads" in asked.line else answer("200 OK")) as (
        site,
        _,
    ):
        begun = await site.upload("s/x", metadata={})
        await begun.write([b"abc"])
        with pytest.raises(ObjectFault, match="ETag"):
            await begun.complete()


async def test_what_was_put_without_an_etag_was_not_put() -> None:
    """Whatever answers 200 to all that it is asked, and keeps nothing, is no copy."""
    async with fake_service(lambda _: answer("200 OK", b"<html>back soon</html>")) as (site, _):
        with pytest.raises(ObjectFault, match="ETag"):
            await put(site)


async def test_a_listing_that_goes_on_and_does_not_say_where_is_none() -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    async with fake_service(lambda _: answer("200 OK", page)) as (site, _):
        with pytest.raises(SiteUnavailable, match="NextContinuationToken"):
            await listing(site)


async def test_small_blocks_are_put_together_to_parts_that_s3_takes() -> None:
    def say(asked: Asked) -> bytes:
        return UPLOAD if "?uploads" in asked.line else answer("200 OK", COMPLETED, ETag='"e"')

    async with fake_service(say) as (site, asked):
        begun = await site.upload("s/x", metadata={})
        for _ in range(12):
            block = bytearray(1024 * 1024)
            await begun.write([block])
            block[:] = b"\xff" * len(block)  # whoever wrote it may use it for something else
        await begun.complete()
    parts = [request.body for request in asked if "partNumber" in request.line]
    assert [len(part) for part in parts] == [5 * 1024 * 1024, 5 * 1024 * 1024, 2 * 1024 * 1024]
    assert not any(b"\xff" in part for part in parts)
    assert asked[-1].body.count(b"<PartNumber>") == 3


COMPLETED = b"<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>"


async def test_more_than_was_asked_for_is_not_read() -> None:
    """A service that ignores ranges would fill the memory with objects."""
    async with fake_service(lambda _: answer("200 OK", b"x" * 1000)) as (site, _):
        with pytest.raises(ObjectFault, match="more than was asked for"):
            await site.get("s/x", 0, 100)
        with pytest.raises(ObjectFault, match="all of it was sent"):
            await site.get("s/x", 100)


async def test_an_answer_that_breaks_off_is_the_objects_fault() -> None:
    """MinIO hangs up when it finds bytes rotten after it has begun to send them."""

    def say(_: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc"

    async with fake_service(say) as (site, _):
        with pytest.raises(ObjectFault, match="broke off"):
            await get(site)


async def test_a_description_that_is_none_is_told() -> None:
    async with fake_service(lambda _: answer("200 OK", Last_Modified="yesterday")) as (site, _):
        with pytest.raises(SiteUnavailable, match="no description"):
            await head(site)


async def test_a_bucket_that_is_not_versioned_keeps_what_it_has() -> None:
    """Nothing can be named there, so nothing that was just put can be mistaken for something else."""
    async with fake_service(lambda _: error("500 Oops", "InternalError")) as (site, asked):
        for version_id in ("", "null"):
            with pytest.raises(ObjectFault, match="no version"):
                await site.delete("s/x", version_id)
    assert asked == []


async def test_credentials_are_in_no_url_no_error_and_no_body() -> None:
    async with fake_service(lambda _: error("403 Forbidden", "AccessDenied")) as (site, asked):
        for call in (put, get, head, listing, upload):
            with pytest.raises(SiteUnavailable) as told:
                await call(site)
            assert not re.search("access-key|secret-key", str(told.value))
    assert not any(re.search("access-key|secret-key", request.line) for request in asked)
