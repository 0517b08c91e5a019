"""Signed requests to one S3 service, on connections that are kept (AWS Signature Version 4).

The digest of what is sent is part of what is signed, so the service itself refuses bytes that changed on the
way. Each answer is read whole, within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote

import aiohttp
from minio.credentials.credentials import Credentials as SignerCredentials
from minio.signer import sign_v4_s3
from yarl import URL

from storage_node.site.protocol import SiteUnavailable
from storage_node.site.s3_body import Body
from storage_node.site.s3_errors import Refusal
from storage_node.site.s3_tls import trust
from storage_node.site.s3_xml import error_of

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from cluster.nouns import Buffer
    from storage_node.site.s3_location import Credentials, CredentialsProvider, S3Limits, S3Location

EMPTY_DIGEST: Final = sha256(b"").hexdigest()

ANSWER_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""Largest answer that is read, besides objects: a page of a listing has a thousand entries."""

_UNRESERVED: Final = "-_.~"
"""What a query holds as it is, besides letters and digits (RFC 3986 2.3)."""
_KEPT_IDLE_S: Final = 15.0
"""How long a connection is kept that nobody uses: less than any service keeps it."""
_READ_BUFFER_BYTES: Final = 1024 * 1024
_HALF_A_SECOND: Final = 0.5
"""What a Date header leaves out, on average (RFC 9110 6.6.1)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered."""

    status: int
    headers: CIMultiDictProxy[str]
    content: bytes
    received_at: datetime

    @property
    def succeeded(self) -> bool:
        """Whether it did what was asked."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def etag(self) -> str:
        """The ETag that S3 gives whatever was put; empty where somebody else answers, or nothing was put."""
        return self.headers.get("ETag", "")

    @property
    def clock_offset_s(self) -> float | None:
        """How far the service's clock is ahead of ours, to a second; None when it does not say."""
        try:
            theirs = parsedate_to_datetime(self.headers.get("Date", ""))
        except ValueError:
            return None
        if theirs.tzinfo is None:  # it is UTC, whatever it says (RFC 9110 5.6.7)
            theirs = theirs.replace(tzinfo=UTC)
        return (theirs - self.received_at).total_seconds() + _HALF_A_SECOND

    @property
    def refusal(self) -> Refusal:
        """What it says when it did not."""
        code, message, region = error_of(self.content)
        region = region or self.headers.get("x-amz-bucket-region", "")
        return Refusal(self.status, code, message, region, self.clock_offset_s)


class BrokenOff(SiteUnavailable):
    """The answer began, and did not come to its end, or is larger than it may be."""


class Disconnected(SiteUnavailable):
    """The connection was there, and ended before an answer came."""


class S3Requests:
    """Asks one site's service.

    Parameters
    ----------
    site : str
        Name of the site, for errors.
    location : S3Location
    credentials : callable
        Returns the credentials that hold now.
    limits : S3Limits
    now : callable
        Returns the time, aware: requests are signed with it.
    """

    def __init__(
        self,
        site: str,
        location: S3Location,
        credentials: CredentialsProvider,
        limits: S3Limits,
        now: Callable[[], datetime],
    ) -> None:
        self.site = site
        self.location = location
        self._credentials = credentials
        self._limits = limits
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def ask(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        parts: Sequence[Buffer] = (),
        digest: str = EMPTY_DIGEST,
        limit_bytes: int | None = ANSWER_LIMIT_BYTES,
    ) -> Answer:
        """Ask something about an object, or about the bucket if there is no key.

        When the connection had been kept and turns out to be closed, it is asked once more on another: what
        is asked here is the same however often it is asked, but for POST, which is not.

        Parameters
        ----------
        method : str
        key : str
        query, headers : mapping of str to str
            Not encoded yet; headers are ASCII.
        parts : sequence of bytes-like
            What is sent.
        digest : str
            SHA-256 of the parts.
        limit_bytes : int or None
            Largest answer that is read, if it is a success.

        Raises
        ------
        SiteUnavailable
            There is no answer. What was asked may have happened all the same.
        BrokenOff
            There is not all of it.
        """
        return await self._ask(
            method,
            self.location.path(key),
            self.location.bucket_host,
            query,
            headers,
            parts,
            digest,
            limit_bytes,
        )

    async def ask_server(self, path: str) -> Answer:
        """Ask (GET) for something that is not in the bucket.

        Raises
        ------
        SiteUnavailable, BrokenOff
        """
        return await self._ask(
            "GET", path, self.location.host, None, None, (), EMPTY_DIGEST, ANSWER_LIMIT_BYTES
        )

    async def _ask(
        self,
        method: str,
        path: str,
        host: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        parts: Sequence[Buffer],
        digest: str,
        limit_bytes: int | None,
    ) -> Answer:
        if self._closed:
            raise SiteUnavailable(self.site, "it was closed")
        encoded = "&".join(
            f"{name}={quote(value, safe=_UNRESERVED)}" for name, value in (query or {}).items()
        )
        url = SplitResult("https" if self.location.secure else "http", host, path, encoded, "")
        body = Body(parts) if parts else None
        finished = False
        try:
            async with self._open_session().request(
                method,
                URL.build(scheme=url.scheme, authority=host, path=path, query_string=encoded, encoded=True),
                headers=self._signed(method, url, headers, digest),
                data=body,
                allow_redirects=False,
            ) as response:
                answer = Answer(
                    response.status,
                    response.headers,
                    await self._read(response, limit_bytes),
                    self._now(),
                )
                finished = True
                return answer
        except aiohttp.ClientPayloadError as error:
            raise BrokenOff(self.site, f"{self.location.endpoint} broke off its answer: {error}") from error
        except aiohttp.ClientConnectorCertificateError as error:
            reason = f"the certificate of {self.location.endpoint} is not trusted: see ca_file"
            raise SiteUnavailable(self.site, reason) from error
        except aiohttp.ClientSSLError as error:
            reason = f"{self.location.endpoint} does not speak TLS as it should: see endpoint"
            raise SiteUnavailable(self.site, reason) from error
        except aiohttp.ClientConnectorError as error:
            reason = f"{self.location.endpoint} cannot be reached ({error.os_error}): see endpoint"
            raise SiteUnavailable(self.site, reason) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise Disconnected(self.site, f"{self.location.endpoint} hung up") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SiteUnavailable(self.site, f"{self.location.endpoint}: {error}") from error
        finally:
            if body is not None and not (finished and body.sent):
                body.give_up()

    def _signed(
        self, method: str, url: SplitResult, headers: Mapping[str, str] | None, digest: str
    ) -> dict[str, str]:
        now = self._now().astimezone(UTC)
        credentials = self._credentials()
        if not (credentials.access_key and credentials.access_key.isprintable() and credentials.secret_key):
            raise SiteUnavailable(self.site, "its credentials are empty or damaged: see credentials_file")
        signed: dict[str, str] = {
            "Host": url.netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
            **(headers or {}),
        }
        if credentials.session_token is not None:
            signed["x-amz-security-token"] = credentials.session_token
        sign_v4_s3(
            method=method,
            url=url,
            region=self.location.region,
            headers=signed,  # type: ignore[arg-type]  # a dict is invariant; it takes lists of strings, too
            credentials=_for_signer(credentials),
            content_sha256=digest,
            date=now,
        )
        return signed

    async def _read(self, response: aiohttp.ClientResponse, limit_bytes: int | None) -> bytes:
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            limit_bytes = ANSWER_LIMIT_BYTES
        declared = response.content_length
        if limit_bytes is None or (declared is not None and declared <= limit_bytes):
            return await response.read()
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            pieces.append(piece)
            if (size := size + len(piece)) > limit_bytes:
                response.close()
                raise BrokenOff(self.site, f"{self.location.endpoint} sends more than was asked for")
        return b"".join(pieces)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._limits.connections,
                    ssl=trust(self.site, self.location) or False,
                    keepalive_timeout=_KEPT_IDLE_S,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self._limits.connect_timeout_s,
                    sock_read=self._limits.silence_timeout_s,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
                read_bufsize=_READ_BUFFER_BYTES,
            )
        return self._session

    async def close(self) -> None:
        """Close all connections; nothing can be asked any more."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()


@lru_cache(maxsize=16)
def _for_signer(credentials: Credentials) -> SignerCredentials:
    return SignerCredentials(credentials.access_key, credentials.secret_key)
