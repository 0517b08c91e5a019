"""What it says of a site, or of one object, when an S3 service does not do what was asked.

A site that is taken for gone because of one rotten object would take its sound ones with it; one that is
taken for well while it takes nothing would be asked again and again. So what names the account, the bucket,
the clock or the room speaks of the site; whatever else comes as an S3 error in an answer about one object
speaks of that object (a probe will find out if it is the site all the same), and what comes from somebody
who does not speak S3 speaks of the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteFull, SiteUnavailable
from storage_node.site.s3_location import S3Location

Failure: TypeAlias = SiteUnavailable | ObjectFault | ObjectMissing

_CREDENTIALS: Final = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "InvalidTokenId",
        "SignatureDoesNotMatch",
        "XMinioAccessKeyDisabled",
    }
)
_CLOCK: Final = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
_REGION: Final = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "InvalidRegion",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
_FULL: Final = frozenset(
    {"InsufficientCapacity", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"}
)
_FULL_SAID: Final = ("no space left on device", "disk quota exceeded")
"""What an internal error gives as its cause when a drive is full: MinIO hands the system's words on."""
_NOT_READY: Final = frozenset({"ServerNotInitialized", "XMinioServerNotInitialized"})
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchVersion"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of an S3 service (or of what stands before it) that is not success."""

    status: int
    code: str
    """S3's error code; empty when none could be read."""
    message: str = ""
    region: str = ""
    """Where the bucket is, if it says so."""
    clock_offset_s: float | None = None
    """How far its clock is ahead of ours."""

    def __str__(self) -> str:
        said = f"{self.status} {self.code or 'without an S3 error'}"
        return f"{said}: {self.message}" if self.message else said


def site_failure(site: str, location: S3Location, refusal: Refusal) -> SiteUnavailable | None:
    """Return what a refusal says of the site as a whole, or None if it says nothing of it.

    The line names the setting that is to be looked at.
    """
    code = refusal.code
    said_full = any(words in refusal.message for words in _FULL_SAID)
    if said_full or code in _FULL or refusal.status == HTTPStatus.INSUFFICIENT_STORAGE:
        return SiteFull(site, f"{location.endpoint} has no room ({code or refusal.status})")
    reason = _reason(location, refusal)
    return None if reason is None else SiteUnavailable(site, reason)


def _reason(location: S3Location, refusal: Refusal) -> str | None:
    code = refusal.code
    if code in _CLOCK:
        offset = refusal.clock_offset_s
        by = "" if offset is None else f" by {abs(offset):.0f} s, it is {'ahead' if offset > 0 else 'behind'}"
        return f"the clock of {location.endpoint} differs from ours{by} ({code})"
    if code in _CREDENTIALS or refusal.status == HTTPStatus.UNAUTHORIZED:
        return f"{location} refuses the credentials ({code}): see credentials_file, or the environment's keys"
    if code == "NoSuchBucket":
        return f"there is no bucket {location.bucket} at {location.endpoint}: see objects"
    if code in _REGION:
        where = f", it is in {refusal.region}" if refusal.region else ""
        return f"{location} is not in region {location.region}{where} ({code}): see region"
    if code in _NOT_READY:
        return f"{location.endpoint} is not ready ({code})"
    if not code:
        return f"{location.endpoint} does not answer as an S3 service does ({refusal.status}): see endpoint"
    return None


def failure(
    site: str,
    location: S3Location,
    refusal: Refusal,
    key: str,
    *,
    writing: bool = False,
    removing: bool = False,
) -> Failure:
    """Return what a refusal of something that was asked about one object says."""
    if refusal.code in _MISSING and not writing:
        return ObjectMissing(key)
    of_object = ObjectFault(f"site {site}: {key}: {refusal}")
    if removing and refusal.code == "AccessDenied":  # what AWS says of an object that is under a lock, too
        return of_object
    return site_failure(site, location, refusal) or of_object


def failure_of_all(site: str, location: S3Location, refusal: Refusal) -> SiteUnavailable:
    """Return what a refusal of something that was asked about the whole site says."""
    return site_failure(site, location, refusal) or SiteUnavailable(site, f"{location}: {refusal}")
