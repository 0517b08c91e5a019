"""Listings of a bucket, page by page: of objects, of an object's versions, of unfinished uploads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from storage_node.site import s3_xml

if TYPE_CHECKING:
    from storage_node.site.s3_requests import Answer
    from storage_node.site.s3_xml import ListPage, ObjectVersion, UnfinishedUpload

Ask: TypeAlias = "Callable[[Mapping[str, str]], Awaitable[Answer]]"
"""Asks (GET) for something about the bucket, with such a query; returns the answer if it is a success."""

_ENCODED: Final = {"encoding-type": "url"}
"""Keys may hold what XML cannot."""


async def pages(ask: Ask, *, prefix: str = "", delimiter: str = "") -> AsyncGenerator[ListPage]:
    """List objects, and common prefixes if there is a delimiter, in the order of keys (ListObjectsV2).

    Raises
    ------
    NoS3Answer
        And whatever `ask` raises.
    """
    query = {"list-type": "2", **_ENCODED, "prefix": prefix, "delimiter": delimiter}
    while True:
        page = s3_xml.list_page((await ask(query)).content)
        yield page
        if page.next_token is None:
            return
        query["continuation-token"] = page.next_token


async def versions(ask: Ask, key: str) -> list[ObjectVersion]:
    """Return the versions and delete markers of one object, the newest first (ListObjectVersions).

    Raises
    ------
    NoS3Answer
        And whatever `ask` raises.
    """
    query = {"versions": "", **_ENCODED, "prefix": key}
    found: list[ObjectVersion] = []
    while True:
        page = s3_xml.versions_page((await ask(query)).content)
        found += [version for version in page.versions if version.key == key]
        if page.next_key != key:
            return found
        query["key-marker"] = key
        query["version-id-marker"] = page.next_version_id or ""


async def unfinished(ask: Ask) -> list[UnfinishedUpload]:
    """Return all uploads that were begun (ListMultipartUploads).

    MinIO knows only of those that were begun since its server started.

    Raises
    ------
    NoS3Answer
        And whatever `ask` raises.
    """
    query = {"uploads": "", **_ENCODED}
    found: list[UnfinishedUpload] = []
    while True:
        page = s3_xml.uploads_page((await ask(query)).content)
        found += page.uploads
        if page.next_key is None:
            return found
        query["key-marker"] = page.next_key
        query["upload-id-marker"] = page.next_upload_id or ""
