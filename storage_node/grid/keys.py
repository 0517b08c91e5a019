"""The keys of objects: names that are safe as files, made from UIDs that need not be.

A UID that is plain (PS3.5 9.1: digits and dots, at most 64 characters) stands as it is. Of any other, each
character that is not an ASCII letter or digit is percent-encoded, the dot too, so that none becomes `.`,
`..`, a path, or a name that begins with `_`. What would be too long for a file name is cut, and told apart
by a digest.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from cluster.nouns import Level

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance

FACTS: Final = "_facts"
"""First part of the keys of facts."""
STREAMS: Final = "_streams"
"""First part of the keys of versions whose instance was not known when they began to be written."""

NAME_LIMIT_BYTES: Final = 160
"""Longest part of a key: file systems take 255 bytes, of which suffixes and a safety margin are left free."""

_PLAIN: Final = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_PLAIN_LIMIT: Final = 64
_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_VERSION: Final = re.compile(
    r"(?P<folder>[^_/][^/]*/[^/]+/[^/]+)/(?P<digest>[0-9a-f]{64})(~[0-9a-f]+)?\.(dcm|json)"
)
_DIGEST_MARK: Final = "~"
"""Stands in no name that is only encoded, so a shortened one is never another UID's."""


def object_key(instance: Instance, digest: str) -> str:
    """Return the key of a version that was written whole."""
    return f"{folder(instance)}/{digest}.dcm"


def streamed_key(instance: Instance | None, upload_id: str) -> str:
    """Return the key of a version that is written before its digest, or even its identity, is known."""
    return f"{STREAMS if instance is None else folder(instance)}/{upload_id}.dcm"


def manifest_key(instance: Instance, digest: str) -> str:
    """Return the key of the manifest that makes a streamed object a copy."""
    return f"{folder(instance)}/{digest}.json"


def another_key(instance: Instance, digest: str, name: str) -> str:
    """Return a key for a version whose own key cannot be written at a site; `name` is random."""
    return f"{folder(instance)}/{digest}~{name}.dcm"


def beside(key: str, name: str) -> str:
    """Return a key beside one that cannot be written, of a manifest or a fact; `name` is random."""
    stem, dot, suffix = key.rpartition(".")
    return f"{stem}~{name}{dot}{suffix}"


def fact_key(fact: Fact) -> str:
    """Return the key of a fact."""
    return f"{FACTS}/{folder(fact.instance)}/{fact.digest}.json"


def version_in(key: str) -> tuple[str, str] | None:
    """Return an instance's folder and the digest that a key names; None if it names no digest.

    It is the key of a version that was written whole, or the manifest's of one that was streamed; or one of
    those that were taken because that could not be written.
    """
    found = _VERSION.fullmatch(key)
    return None if found is None else (found["folder"], found["digest"])


def digest_in(key: str) -> str:
    """Return the digest that names a fact's object or a manifest, at its own key or at one beside it."""
    return key.rpartition("/")[2].removesuffix(".json").partition("~")[0]


def study_of(folder_name: str) -> str | None:
    """Return the study whose `study_folder` that is; None if it is none, or was cut and could be of many."""
    raw = unquote_to_bytes(folder_name)
    uid = raw.decode("utf-8", "surrogateescape")
    return uid if uid and file_name(uid) == folder_name else None


def study_folder(study_instance_uid: str) -> str:
    """Return what the keys of a study's versions begin with, without a trailing `/`."""
    return file_name(study_instance_uid)


def folder(instance: Instance) -> str:
    """Return what the keys of an instance's versions have in common, without a trailing `/`.

    Of another subject of facts, what the keys of its facts have.
    """
    uids = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
    given = {Level.IMAGE: 3, Level.SERIES: 2}.get(instance.level, 1)
    return "/".join(map(file_name, uids[:given]))


def file_name(uid: str) -> str:
    """Return a UID as one part of a key: another for each UID, and 1 to `NAME_LIMIT_BYTES` ASCII bytes long.

    Raises
    ------
    ValueError
        The UID is empty.
    """
    if len(uid) <= _PLAIN_LIMIT and _PLAIN.fullmatch(uid):
        return uid
    if not uid:
        raise ValueError("an empty UID names nothing")
    raw = uid.encode("utf-8", "surrogateescape")
    encoded = "".join(chr(byte) if byte in _KEPT else f"%{byte:02X}" for byte in raw)
    if len(encoded) <= NAME_LIMIT_BYTES:
        return encoded
    mark = f"{_DIGEST_MARK}{sha256(raw).hexdigest()}"
    return encoded[: NAME_LIMIT_BYTES - len(mark)] + mark
