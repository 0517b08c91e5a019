"""A site whose objects are in a bucket of an S3 service, which is versioned.

Provenance is the objects' user metadata. What is asked here, any S3 service answers; what is known of MinIO
beyond that is only used to tell its faults apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import structlog

from storage_node.site import s3_listing, s3_xml
from storage_node.site.identity import IDENTITY_FILE, read_identity, what_is_wrong
from storage_node.site.protocol import (
    ListedObject,
    ObjectFault,
    ObjectMissing,
    SiteFull,
    SiteUnavailable,
    StoredObject,
)
from storage_node.site.s3_clock import ClockWatch
from storage_node.site.s3_errors import Failure, failure, failure_of_all
from storage_node.site.s3_location import S3Limits
from storage_node.site.s3_requests import (
    ANSWER_LIMIT_BYTES,
    EMPTY_DIGEST,
    Answer,
    BrokenOff,
    Disconnected,
    S3Requests,
)
from storage_node.site.s3_space import Space
from storage_node.site.s3_upload import S3Upload
from storage_node.site.s3_xml import ListPage, NoS3Answer

if TYPE_CHECKING:
    from cluster.nouns import Buffer, SiteIdentity
    from storage_node.site.s3_location import CredentialsProvider, S3Location

_METADATA: Final = "x-amz-meta-"
_PLAIN_IN_METADATA: Final = "-_.~:+@/,="
"""What metadata shows as it is: the rest is percent-encoded, as a header keeps no spaces at its ends."""
_UNNAMED_VERSIONS: Final = frozenset({"", "null"})
"""Version ids of objects in a bucket that is not versioned: they do not tell two objects apart."""
_SPARE_BYTES: Final = 64 * 1024 * 1024
"""Room that a server keeps for itself, and refuses to fill."""

log = structlog.get_logger()


def _now() -> datetime:
    return datetime.now(UTC)


class S3Objects:
    """The objects of one site in a bucket.

    Nothing is asked before the first call, and nothing is done in a bucket that has not said whose it is: at
    the first call, and after each failure of the whole site, its identity is read first.

    Parameters
    ----------
    name : str
        Name of the site.
    location : S3Location
    credentials : callable
        Returns the credentials that hold now.
    expected : SiteIdentity
        What its identity object must say.
    limits : S3Limits
    now : callable
        Returns the time, aware: requests are signed with it.
    """

    def __init__(
        self,
        name: str,
        location: S3Location,
        credentials: CredentialsProvider,
        expected: SiteIdentity,
        *,
        limits: S3Limits | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._name = name
        self._location = location
        self._expected = expected
        self._requests = S3Requests(name, location, credentials, limits or S3Limits(), now)
        self._space = Space(self._requests)
        self._clock = ClockWatch(name)
        self._recognised = False
        self._recognising = asyncio.Lock()

    @property
    def name(self) -> str:
        """Name of the site."""
        return self._name

    async def put(
        self, key: str, parts: Sequence[Buffer], *, digest: str, metadata: Mapping[str, str]
    ) -> None:
        """Write an object (see `Objects.put`)."""
        answer = await self.ask("PUT", key, headers=_headers(metadata), parts=parts, digest=digest)
        if not answer.etag:
            raise ObjectFault(f"site {self._name}: {key}: it was answered {answer.status} without an ETag")

    async def upload(self, key: str, *, metadata: Mapping[str, str]) -> S3Upload:
        """Begin to write an object of a size that is not known yet (see `Objects.upload`)."""
        headers = _headers(metadata)
        try:
            answer = await self.ask("POST", key, query={"uploads": ""}, headers=headers)
        except Disconnected:  # by a server that was tired of it; one begun in vain is swept
            answer = await self.ask("POST", key, query={"uploads": ""}, headers=headers)
        with self._told():
            return S3Upload(self, key, s3_xml.upload_id_of(answer.content))

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object (see `Objects.get`)."""
        if length == 0:
            await self.head(key)
            return b""
        headers: dict[str, str] = {}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        try:
            answer = await self._answer("GET", key, headers=headers, limit_bytes=length)
        except BrokenOff as error:
            raise ObjectFault(f"{key}: {error}") from error
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""
        if not answer.succeeded:
            raise self.failed(answer, key)
        if start and answer.status != HTTPStatus.PARTIAL_CONTENT:
            raise ObjectFault(f"site {self._name}: {key}: all of it was sent when a part was asked for")
        return answer.content

    async def head(self, key: str) -> StoredObject:
        """Describe an object (see `Objects.head`)."""
        answer = await self._answer("HEAD", key)
        if not answer.succeeded:
            # The answer to HEAD has no content that would say why (RFC 9110 9.3.2): the one to GET has.
            await self.ask("GET", key, headers={"Range": "bytes=0-0"})
            raise ObjectFault(f"site {self._name}: {key}: HEAD was answered {answer.status}")
        with self._told():
            return _described(key, answer.headers)

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """List the objects whose key begins with `prefix` (see `Objects.list`)."""
        async with self._pages(prefix=prefix) as pages:
            async for page in pages:
                for listed in page.objects:
                    if listed.key != IDENTITY_FILE:
                        yield listed

    async def folders(self) -> AsyncIterator[str]:
        """Return the first part of all keys that have several (see `Objects.folders`)."""
        async with self._pages(delimiter="/") as pages:
            async for page in pages:
                for folder in page.folders:
                    yield folder

    async def delete(self, key: str, version_id: str) -> None:
        """Remove the very object that `head` described (see `Objects.delete`).

        What it had replaced is removed before it, or that would be current again.
        """
        if version_id in _UNNAMED_VERSIONS:
            raise ObjectFault(f"site {self._name}: {key}: it has no version that could be named")
        with self._told():
            versions = await s3_listing.versions(self._ask_bucket, key)
        if not versions or versions[0].version_id != version_id:
            return
        for version in reversed(versions):
            with suppress(ObjectMissing):  # somebody else was quicker
                await self.ask("DELETE", key, query={"versionId": version.version_id})

    async def sweep(self, older_than: datetime) -> int:
        """Remove uploads that nobody finished (see `Objects.sweep`).

        MinIO shows only those that were begun since its server started, and expires all after a day.
        """
        with self._told():
            uploads = await s3_listing.unfinished(self._ask_bucket)
        swept = 0
        for upload in uploads:
            if upload.begun_at < older_than:
                with suppress(ObjectFault, ObjectMissing):  # its writer was quicker; or it is shown again
                    await self.ask("DELETE", upload.key, query={"uploadId": upload.upload_id})
                    swept += 1
        if swept:
            log.info("site.swept", site=self._name, uploads=swept)
        return swept

    async def free_bytes(self) -> int | None:
        """Return the room that is left, where the server tells it (see `Objects.free_bytes`)."""
        return await self._space.free_bytes()

    async def identity(self) -> SiteIdentity:
        """Read which site this is (see `Objects.identity`)."""
        try:
            await self._recognise()
        except BaseException:
            self._recognised = False
            raise
        self._recognised = True
        return self._expected

    async def _recognise(self) -> None:
        answer = await self._requests.ask("GET", IDENTITY_FILE)
        self._clock.note(answer.clock_offset_s)
        if not answer.succeeded:
            if answer.refusal.code == "NoSuchKey":
                raise SiteUnavailable(self._name, f"{self._location} holds no {IDENTITY_FILE}: it is no site")
            raise failure_of_all(self._name, self._location, answer.refusal)
        if wrong := what_is_wrong(read_identity(answer.content), self._expected):
            raise SiteUnavailable(self._name, f"{IDENTITY_FILE} in {self._location} {wrong}")

    async def close(self) -> None:
        """Let go of all connections."""
        await self._requests.close()

    async def ask(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        parts: Sequence[Buffer] = (),
        digest: str = EMPTY_DIGEST,
    ) -> Answer:
        """Ask for something in the bucket, and return the answer if it is a success.

        Raises
        ------
        ObjectMissing, ObjectFault
            Something about one object was asked.
        SiteUnavailable
        """
        answer = await self._answer(method, key, query=query, headers=headers, parts=parts, digest=digest)
        if not answer.succeeded:
            if parts and answer.refusal.code == "IncompleteBody":
                await self._check_room(sum(memoryview(part).nbytes for part in parts))
            raise self.failed(answer, key, writing=method in ("PUT", "POST"), removing=method == "DELETE")
        return answer

    async def _check_room(self, size_bytes: int) -> None:
        """See whether so much fits: a MinIO whose drive is full may say that not all of it was sent.

        Raises
        ------
        SiteFull
        """
        self._space.forget()
        free_bytes = await self._space.free_bytes()
        if free_bytes is not None and free_bytes < size_bytes + _SPARE_BYTES:
            raise SiteFull(self._name, f"{self._location.endpoint} has {free_bytes} bytes of room left")

    def failed(self, answer: Answer, key: str, *, writing: bool = False, removing: bool = False) -> Failure:
        """Return what an answer that is no success says, of one object or of the site."""
        told: Failure
        if not key:
            told = failure_of_all(self._name, self._location, answer.refusal)
        else:
            told = failure(
                self._name, self._location, answer.refusal, key, writing=writing, removing=removing
            )
        if isinstance(told, SiteFull):
            self._space.forget()
        elif isinstance(told, SiteUnavailable):
            self._recognised = False
        return told

    async def _answer(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        parts: Sequence[Buffer] = (),
        digest: str = EMPTY_DIGEST,
        limit_bytes: int | None = ANSWER_LIMIT_BYTES,
    ) -> Answer:
        if not self._recognised:
            async with self._recognising:
                if not self._recognised:
                    await self.identity()
        try:
            return await self._requests.ask(
                method,
                key,
                query=query,
                headers=headers,
                parts=parts,
                digest=digest,
                limit_bytes=limit_bytes,
            )
        except BrokenOff:
            raise
        except SiteUnavailable:
            self._recognised = False
            raise

    async def _ask_bucket(self, query: Mapping[str, str]) -> Answer:
        return await self.ask("GET", query=query)

    @asynccontextmanager
    async def _pages(self, **asked: str) -> AsyncIterator[AsyncIterator[ListPage]]:
        async with aclosing(s3_listing.pages(self._ask_bucket, **asked)) as pages:
            with self._told():
                yield pages

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell answers that cannot be read as the site's."""
        try:
            yield
        except NoS3Answer as error:
            reason = f"{self._location} does not answer as an S3 service does: {error}"
            raise SiteUnavailable(self._name, reason) from error


def _described(key: str, headers: Mapping[str, str]) -> StoredObject:
    try:
        return StoredObject(
            key=key,
            size_bytes=int(headers["Content-Length"]),
            metadata={
                name.lower().removeprefix(_METADATA): unquote(value)
                for name, value in headers.items()
                if name.lower().startswith(_METADATA)
            },
            version_id=headers.get("x-amz-version-id", ""),
            modified_at=parsedate_to_datetime(headers["Last-Modified"]),
        )
    except (KeyError, ValueError) as error:
        raise NoS3Answer(f"no description of an object: {error!r}") from error


def _headers(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"{_METADATA}{name}": quote(value, safe=_PLAIN_IN_METADATA) for name, value in metadata.items()}
