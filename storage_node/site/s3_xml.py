"""The XML that an S3 service answers with, and the little that it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree as Xml
from xml.sax.saxutils import escape

from storage_node.site.protocol import ListedObject


class NoS3Answer(Exception):
    """What was answered is not what an S3 service answers."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """A part of a listing (ListObjectsV2)."""

    objects: tuple[ListedObject, ...]
    folders: tuple[str, ...]
    """Common prefixes, without their `/`."""
    next_token: str | None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """A version, or a delete marker, of an object."""

    key: str
    version_id: str


@dataclass(frozen=True, slots=True)
class VersionsPage:
    """A part of a listing of versions (ListObjectVersions): by key, of one key the newest first."""

    versions: tuple[ObjectVersion, ...]
    next_key: str | None
    next_version_id: str | None


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that was begun (ListMultipartUploads)."""

    key: str
    upload_id: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """A part of a listing of unfinished uploads."""

    uploads: tuple[UnfinishedUpload, ...]
    next_key: str | None
    next_upload_id: str | None


def error_of(content: bytes) -> tuple[str, str, str]:
    """Return code, message and region of an error; empty where there is none, or none can be read."""
    try:
        root = _parse(content)
    except NoS3Answer:
        return "", "", ""
    if root.tag != "Error":
        return "", "", ""
    return _text(root, "Code"), _text(root, "Message"), _text(root, "Region")


def list_page(content: bytes) -> ListPage:
    """Read an answer to ListObjectsV2, asked with `encoding-type=url`.

    Raises
    ------
    NoS3Answer
    """
    root = _answer(content, "ListBucketResult")
    return ListPage(
        tuple(
            ListedObject(unquote_plus(_text(entry, "Key")), _size(entry), _time(entry, "LastModified"))
            for entry in root.iter("Contents")
        ),
        tuple(
            unquote_plus(_text(entry, "Prefix")).removesuffix("/") for entry in root.iter("CommonPrefixes")
        ),
        _next(root, "NextContinuationToken"),
    )


def versions_page(content: bytes) -> VersionsPage:
    """Read an answer to ListObjectVersions, asked with `encoding-type=url`.

    Raises
    ------
    NoS3Answer
    """
    root = _answer(content, "ListVersionsResult")
    next_key = _next(root, "NextKeyMarker")
    return VersionsPage(
        tuple(
            ObjectVersion(unquote_plus(_text(entry, "Key")), _text(entry, "VersionId"))
            for entry in root
            if entry.tag in ("Version", "DeleteMarker")
        ),
        None if next_key is None else unquote_plus(next_key),
        None if next_key is None else _text(root, "NextVersionIdMarker"),
    )


def uploads_page(content: bytes) -> UploadsPage:
    """Read an answer to ListMultipartUploads, asked with `encoding-type=url`.

    Raises
    ------
    NoS3Answer
    """
    root = _answer(content, "ListMultipartUploadsResult")
    next_key = _next(root, "NextKeyMarker")
    return UploadsPage(
        tuple(
            UnfinishedUpload(
                unquote_plus(_text(entry, "Key")), _text(entry, "UploadId"), _time(entry, "Initiated")
            )
            for entry in root.iter("Upload")
        ),
        None if next_key is None else unquote_plus(next_key),
        None if next_key is None else _text(root, "NextUploadIdMarker"),
    )


def upload_id_of(content: bytes) -> str:
    """Read an answer to CreateMultipartUpload.

    Raises
    ------
    NoS3Answer
    """
    if upload_id := _text(_answer(content, "InitiateMultipartUploadResult"), "UploadId"):
        return upload_id
    raise NoS3Answer("an upload without an id")


def check_completed(content: bytes) -> None:
    """Check an answer to CompleteMultipartUpload: its status may be 200, and it an error all the same.

    Raises
    ------
    NoS3Answer
    """
    if not _text(_answer(content, "CompleteMultipartUploadResult"), "ETag"):
        raise NoS3Answer("a completed upload without an ETag")


def complete_upload(etags: Sequence[str]) -> bytes:
    """Return what CompleteMultipartUpload is asked with; the parts are numbered from 1."""
    return "".join(_complete_upload(etags)).encode("utf-8")


def _complete_upload(etags: Sequence[str]) -> Iterator[str]:
    yield '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    for number, etag in enumerate(etags, 1):
        yield f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
    yield "</CompleteMultipartUpload>"


def _answer(content: bytes, name: str) -> Xml.Element:
    root = _parse(content)
    if root.tag != name:
        raise NoS3Answer(f"expected {name}, found {root.tag}")
    return root


def _parse(content: bytes) -> Xml.Element:
    """Return the root element, all tags without their namespace: services differ in whether they name it."""
    try:
        # Expat itself ends expansions of entities that grow out of bounds.
        root = Xml.fromstring(content.strip())  # noqa: S314  # what is read is bounded, and so is expat
    except Xml.ParseError as error:
        raise NoS3Answer(f"no XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _next(root: Xml.Element, name: str) -> str | None:
    """Return where the next page begins, None after the last: without it the first would come for ever."""
    if _text(root, "IsTruncated") != "true":
        return None
    if marker := _text(root, name):
        return marker
    raise NoS3Answer(f"a page that is not the last, without {name}")


def _text(element: Xml.Element, name: str) -> str:
    return element.findtext(name) or ""


def _size(entry: Xml.Element) -> int:
    try:
        return int(_text(entry, "Size"))
    except ValueError as error:
        raise NoS3Answer(f"no size: {error}") from error


def _time(entry: Xml.Element, name: str) -> datetime:
    try:
        return datetime.fromisoformat(_text(entry, name))
    except ValueError as error:
        raise NoS3Answer(f"no time: {error}") from error
