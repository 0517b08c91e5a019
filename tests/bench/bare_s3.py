"""The least that an S3 client can do: requests signed by `minio.signer`, on one aiohttp session under uvloop.

It retries nothing, checks no digest of what it reads, keeps no row, and knows its servers to be well.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3
from minio.time import to_amz_date
from yarl import URL

ACCESS_KEY: Final = "ATRIA_S3_ACCESS_KEY"
SECRET_KEY: Final = "ATRIA_S3_SECRET_KEY"
"""Environment variables with the servers' credentials: the same that Atria reads."""
REGION: Final = "us-east-1"

_EMPTY_DIGEST: Final = sha256(b"").hexdigest()
_NAMESPACE: Final = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
_TIMEOUT_S: Final = 60.0


class Refused(Exception):
    """A server answered with another status than 200 or 204."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket at a server, addressed by path."""

    endpoint: str
    """`http://host:port`."""
    name: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An object, as a listing tells of it."""

    key: str
    size_bytes: int
    modified_at: datetime


class BareClient:
    """Sends signed requests; `open_client` makes it."""

    def __init__(self, session: ClientSession, credentials: Credentials) -> None:
        self._session = session
        self._credentials = credentials

    async def make_bucket(self, bucket: Bucket) -> None:
        """Make a bucket like a site's: with object lock, and so with versions."""
        await self._request("PUT", bucket, "", headers={"x-amz-bucket-object-lock-enabled": "true"})

    async def put(self, bucket: Bucket, key: str, body: bytes, digest: str) -> None:
        """Write an object; `digest` is the SHA-256 of its bytes, signed as the payload's."""
        await self._request("PUT", bucket, key, body=body, digest=digest)

    async def get(self, bucket: Bucket, key: str) -> bytes:
        """Read an object."""
        return await self._request("GET", bucket, key)

    async def begin_upload(self, bucket: Bucket, key: str) -> str:
        """Begin a multipart upload, and return its id."""
        answer = await self._request("POST", bucket, key, query={"uploads": ""})
        return _text(ElementTree.fromstring(answer), "UploadId")

    async def put_part(
        self, bucket: Bucket, key: str, upload_id: str, number: int, body: memoryview, digest: str
    ) -> None:
        """Write one part; parts are numbered from 1."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        await self._request("PUT", bucket, key, query=query, body=_once(body), digest=digest, size=len(body))

    async def complete_upload(self, bucket: Bucket, key: str, upload_id: str) -> None:
        """Make of the parts an object."""
        parts: list[str] = []
        listed = await self._request("GET", bucket, key, query={"uploadId": upload_id, "max-parts": "1000"})
        for part in ElementTree.fromstring(listed).iterfind("s3:Part", _NAMESPACE):
            number, etag = _text(part, "PartNumber"), _text(part, "ETag")
            parts.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        digest = sha256(body).hexdigest()
        answer = await self._request(
            "POST", bucket, key, query={"uploadId": upload_id}, body=body, digest=digest
        )
        if b"<Error>" in answer:  # said with status 200 (S3 API, CompleteMultipartUpload)
            raise Refused(answer.decode("utf-8", "replace"))

    async def list(self, bucket: Bucket, suffix: str) -> list[Listed]:
        """Return all objects whose key ends so, ordered by key (S3 API, ListObjectsV2)."""
        found: list[Listed] = []
        query = {"list-type": "2"}
        while True:
            page = ElementTree.fromstring(await self._request("GET", bucket, "", query=query))
            for entry in page.iterfind("s3:Contents", _NAMESPACE):
                modified_at = datetime.fromisoformat(_text(entry, "LastModified"))
                found.append(Listed(_text(entry, "Key"), int(_text(entry, "Size")), modified_at))
            if _text(page, "IsTruncated") != "true":
                return [one for one in found if one.key.endswith(suffix)]
            query["continuation-token"] = _text(page, "NextContinuationToken")

    async def _request(
        self,
        method: str,
        bucket: Bucket,
        key: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | AsyncIterable[memoryview] | None = None,
        digest: str = _EMPTY_DIGEST,
        size: int | None = None,
    ) -> bytes:
        address = f"{bucket.endpoint}/{bucket.name}/{key}" if key else f"{bucket.endpoint}/{bucket.name}"
        # The signer wants the parameters in order.
        url = urlsplit(f"{address}?{urlencode(sorted(query.items()))}" if query else address)
        now = datetime.now(UTC)
        signed = {
            "Host": url.netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": to_amz_date(now),
            **(headers or {}),
        }
        authorized = sign_v4_s3(
            method=method,
            url=url,
            region=REGION,
            headers={**signed},
            credentials=self._credentials,
            content_sha256=digest,
            date=now,
        )
        signed["Authorization"] = str(authorized["Authorization"])
        if size is not None:
            signed["Content-Length"] = str(size)
        target = URL(url.geturl(), encoded=True)
        async with self._session.request(method, target, headers=signed, data=body) as response:
            answer = await response.read()
            if response.status not in (200, 204):
                raise Refused(f"{method} {url.path}: {response.status} {answer[:300]!r}")
            return answer


@asynccontextmanager
async def open_client(connections: int) -> AsyncGenerator[BareClient]:
    """Open a client of so many connections to each server; its credentials come from the environment."""
    connector = TCPConnector(limit=0, limit_per_host=connections)
    timeout = ClientTimeout(total=None, sock_read=_TIMEOUT_S)
    async with ClientSession(
        connector=connector, timeout=timeout, skip_auto_headers=("Content-Type", "User-Agent", "Accept")
    ) as session:
        yield BareClient(session, Credentials(os.environ[ACCESS_KEY], os.environ[SECRET_KEY]))


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"s3:{name}", "", _NAMESPACE)


async def _once(body: memoryview) -> AsyncGenerator[memoryview]:
    """Give a body in one piece: aiohttp warns of large ones that are bytes."""
    yield body
