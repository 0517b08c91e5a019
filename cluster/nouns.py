"""The nouns that everything else is said in.

They are values: frozen, comparable, without behaviour that needs I/O. `docs/design` calls them by the
same names, and so do the catalogue's columns and the log lines.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, Self, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes that are passed on, never changed."""

BLOCK_BYTES: Final = 8 * 1024 * 1024
"""Size of the blocks by which a streamed version is written, digested and read."""


class Level(enum.StrEnum):
    """Query/Retrieve Level (0008,0052), from the top down (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


def time_text(time: datetime) -> str:
    """Return an aware time as a text of UTC, to the microsecond: texts are ordered as times are."""
    return _utc_text(time if time.tzinfo is UTC else time.astimezone(UTC))


@lru_cache(maxsize=1024)
def _utc_text(time: datetime) -> str:
    """Format it once: each site's catalogue asks for the same, several times a row."""
    return time.isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One SOP instance, with its place in the DICOM information model (PS3.3 A.1.2).

    The UIDs are the sender's, without the trailing NUL or spaces that padding adds; they need not be
    valid (PS3.5 9.1), only readable.

    What is decided may be about more than one of them. A series, or a study, is said with the UIDs below it
    empty; a patient as a study whose UID is the patient key, which no UID is: it has a line feed.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    @classmethod
    def patient(cls, key: str) -> Self:
        """Return what stands for a patient, by the key (`catalogue.views.patient_key`)."""
        assert "\n" in key
        return cls(key, "", "")

    @property
    def level(self) -> Level:
        """What it stands for: an instance, or more."""
        if self.sop_instance_uid:
            return Level.IMAGE
        if self.series_instance_uid:
            return Level.SERIES
        return Level.PATIENT if "\n" in self.study_instance_uid else Level.STUDY

    @property
    def above(self) -> tuple[Instance, Instance]:
        """What stands for the series and the study that it is in."""
        study = self.study_instance_uid
        return Instance(study, self.series_instance_uid, ""), Instance(study, "", "")


@dataclass(frozen=True, slots=True, order=True)
class Provenance:
    """Who sent a version, to whom, when. Two provenances of one version merge to the earlier, whole.

    The order of the fields is the order by which the earlier is found: no two workers disagree on it.
    """

    received_at: datetime
    calling_ae: str
    called_ae: str
    source: str
    """Network address of the sender, `host:port`, as the balancer saw it."""

    @staticmethod
    def merge(one: Provenance, other: Provenance) -> Provenance:
        """Return the earlier of two: associative, commutative and idempotent."""
        return min(one, other)

    def to_metadata(self) -> dict[str, str]:
        """Return it as an object's user metadata: ASCII keys and values (S3 allows no other)."""
        return {
            "received-at": time_text(self.received_at),
            "calling-ae": self.calling_ae,
            "called-ae": self.called_ae,
            "source": self.source,
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Provenance:
        """Read what `to_metadata` wrote.

        Raises
        ------
        KeyError, ValueError
            The metadata is not that of one of Atria's objects.
        """
        return cls(
            received_at=datetime.fromisoformat(metadata["received-at"]),
            calling_ae=metadata["calling-ae"],
            called_ae=metadata["called-ae"],
            source=metadata["source"],
        )


@dataclass(frozen=True, slots=True)
class Version:
    """One content of an instance: a Part 10 file, named by its digest.

    The same data set in the same transfer syntax is the same version, whoever sends it.
    """

    instance: Instance
    digest: str
    """SHA-256 of the whole Part 10 file, 64 lower-case hexadecimal digits."""
    key: str
    """Where its bytes are; another at a site whose own row says so, as it may if it was streamed twice."""
    size_bytes: int
    """Size of the Part 10 file."""
    data_set_offset_bytes: int
    """Where in the file the data set begins: preamble, prefix and File Meta Information come before."""
    sop_class_uid: str
    transfer_syntax_uid: str
    block_digests: tuple[str, ...] = ()
    """SHA-256 of each `BLOCK_BYTES` of the file, when it was streamed; empty when `digest` is all."""


class Topic(enum.StrEnum):
    """What facts are about. Of each topic, one fact about a subject holds."""

    DELETION = "deletion"
    REJECTION = "rejection"
    CHOICE = "choice"
    CORRECTION = "correction"
    RETENTION = "retention"


class FactKind(enum.StrEnum):
    """What can be decided."""

    DELETED = "deleted"
    """The instance is in no answer any more. Its bytes stay, for a time.

    Details, where a version came back whose bytes had gone, and stays deleted: its `digest`.
    """
    PURGED = "purged"
    """It was deleted, and its bytes go.

    Details: the `digests` of the versions that go, a space between two; `order`, the highest of theirs.
    """
    REVIVED = "revived"
    """It was deleted, and is in answers again. Details as of a deletion."""
    REJECTED = "rejected"
    """A rejection note names the instance (IHE RAD IOCM): it is in no answer, also when it is sent again.

    Details: `code` of the note's title (PS3.16 CID 7010), `note`, the note's SOP Instance UID.
    """
    ACCEPTED = "accepted"
    """It is not rejected any more."""
    CHOSEN = "chosen"
    """One of the instance's versions is the current one.

    Details: its `digest`; `seen`, among which it was chosen; `relation`, why, where no person chose it
    (`storage_node.grid.choices`).
    """
    UNCHOSEN = "unchosen"
    """None is: the order of the versions decides again."""
    CORRECTED = "corrected"
    """A patient, a study or a series has other attributes than its instances say.

    Details: the text of each by its tag, as `00100010`. One without details takes corrections back.
    """
    RETAINED = "retained"
    """What it is about is not deleted before a day. Details: `until`, as `2036-12-31`."""
    RELEASED = "released"
    """It may be."""

    @property
    def topic(self) -> Topic:
        """What it decides."""
        return _TOPICS[self]


_TOPICS: Final = {
    FactKind.DELETED: Topic.DELETION,
    FactKind.PURGED: Topic.DELETION,
    FactKind.REVIVED: Topic.DELETION,
    FactKind.REJECTED: Topic.REJECTION,
    FactKind.ACCEPTED: Topic.REJECTION,
    FactKind.CHOSEN: Topic.CHOICE,
    FactKind.UNCHOSEN: Topic.CHOICE,
    FactKind.CORRECTED: Topic.CORRECTION,
    FactKind.RETAINED: Topic.RETENTION,
    FactKind.RELEASED: Topic.RETENTION,
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was decided, for ever: what comes later is another fact.

    Of the facts about a subject, the one of the highest epoch holds in each topic (design, rule 3;
    `storage_node.catalogue.views.authority`).
    """

    instance: Instance
    """Its subject: an instance, or a series, a study or a patient (`Instance.level`)."""
    epoch: int
    """One more than the highest of its topic that was known when it was decided; the first is 1."""
    kind: FactKind
    decided_at: datetime
    decided_by: str
    """Who did: a person's account, or the AE title whose resend revived it."""
    reason: str
    details: tuple[tuple[str, str], ...] = ()
    """What else its kind needs to be told, in the order of the names."""

    def detail(self, name: str) -> str | None:
        """Return one of its details; None if it has it not."""
        return dict(self.details).get(name)

    def to_json(self) -> bytes:
        """Return its canonical form: what is stored as its object, and what its digest is of."""
        entries: dict[str, object] = {
            "instance": {
                "study_instance_uid": self.instance.study_instance_uid,
                "series_instance_uid": self.instance.series_instance_uid,
                "sop_instance_uid": self.instance.sop_instance_uid,
            },
            "epoch": self.epoch,
            "kind": self.kind,
            "decided_at": self.decided_at.astimezone(UTC).isoformat(),
            "decided_by": self.decided_by,
            "reason": self.reason,
        }
        if self.details:
            entries["details"] = dict(self.details)
        return json.dumps(entries, sort_keys=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            It is no fact.
        """
        try:
            entries = json.loads(content)
            return cls(
                instance=Instance(**entries.pop("instance")),
                kind=FactKind(entries.pop("kind")),
                decided_at=datetime.fromisoformat(entries.pop("decided_at")),
                details=tuple(sorted(entries.pop("details", {}).items())),
                **entries,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no fact: {error!r}") from error

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical form, 64 hexadecimal digits: what names it in keys and debts."""
        return sha256(self.to_json()).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Debt:
    """A note, kept at other sites, that `site` is owed a version or a fact, or has shown a bad copy."""

    site: str
    instance: Instance
    digest: str
    """Of the version, or of the fact."""


@dataclass(frozen=True, slots=True)
class SiteIdentity:
    """What a site is, written in its objects and in its catalogue when it was made.

    A site whose two halves differ in it, or differ from what the cluster knows, has lost its state.
    """

    name: str
    site_id: str
    """A random UUID: another folder or bucket of the same name has another."""
    generation: int
    """Raised by one each time the site is replaced, which loses its state."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A site's place in the cluster, as the cluster's record has it."""

    identity: SiteIdentity
    filling: bool = False
    """Whether it lost its state and is being filled: it takes writes, and has no vote (design, rule 8)."""
    rebuilding: bool = False
    """Whether its catalogue is first to be made from its own objects; it is filling all the while."""
