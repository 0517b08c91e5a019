"""A multipart upload: an object that is written while its size is not known yet.

Parts are sent as they come, one at a time, each under its own digest, so no more than one block is held here.
S3 wants parts of 5 MiB or more, except the last, and 10,000 of them at most: with the blocks of 8 MiB that
the grid writes, that is an object of 78 GiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from storage_node.site import s3_xml
from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteUnavailable
from storage_node.site.s3_xml import NoS3Answer

if TYPE_CHECKING:
    from cluster.nouns import Buffer
    from storage_node.site.s3 import S3Objects

PART_BYTES: Final = 5 * 1024 * 1024
"""Smallest part that S3 takes, but for the last."""


class S3Upload:
    """One object on its way."""

    def __init__(self, site: S3Objects, key: str, upload_id: str) -> None:
        self._site = site
        self._key = key
        self._upload_id = upload_id
        self._etags: list[str] = []
        self._small: list[bytes] = []
        """Copies of what is too little for a part."""
        self._small_bytes = 0
        self._ended = False

    async def write(self, parts: Sequence[Buffer], *, digest: str | None = None) -> None:
        """Append the parts (see `Upload.write`)."""
        self._check()
        written_bytes = sum(memoryview(part).nbytes for part in parts)
        if self._small_bytes + written_bytes < PART_BYTES:
            self._small.append(b"".join(parts))
            self._small_bytes += written_bytes
            return
        if self._small:
            digest = None
        await self._send([*self._small, *parts], digest)
        self._small, self._small_bytes = [], 0

    async def complete(self) -> None:
        """Make the object visible (see `Upload.complete`); S3 has each part durable already."""
        self._check()
        if self._small or not self._etags:
            await self._send(self._small, None)
        content = s3_xml.complete_upload(self._etags)
        answer = await self._site.ask(
            "POST",
            self._key,
            query={"uploadId": self._upload_id},
            parts=[content],
            digest=sha256(content).hexdigest(),
        )
        try:
            s3_xml.check_completed(answer.content)
        except NoS3Answer as error:
            # 200 was sent before it was done, and then it was not (S3 API, CompleteMultipartUpload).
            raise self._site.failed(answer, self._key, writing=True) from error
        self._ended = True

    async def abort(self) -> None:
        """Leave nothing behind (see `Upload.abort`)."""
        if self._ended:
            return
        self._ended = True
        self._small.clear()
        with suppress(SiteUnavailable, ObjectFault, ObjectMissing):  # what stays is swept when it is old
            await self._site.ask("DELETE", self._key, query={"uploadId": self._upload_id})

    async def _send(self, parts: Sequence[Buffer], digest: str | None) -> None:
        if digest is None:
            digest = await asyncio.to_thread(_digest, parts)
        answer = await self._site.ask(
            "PUT",
            self._key,
            query={"partNumber": str(len(self._etags) + 1), "uploadId": self._upload_id},
            parts=parts,
            digest=digest,
        )
        if not answer.etag or answer.status != HTTPStatus.OK:
            raise ObjectFault(f"site {self._site.name}: {self._key}: a part was answered without an ETag")
        self._etags.append(answer.etag)

    def _check(self) -> None:
        if self._ended:
            raise SiteUnavailable(self._site.name, "the upload has ended")


def _digest(parts: Sequence[Buffer]) -> str:
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
