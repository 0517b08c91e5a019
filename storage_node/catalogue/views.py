"""What follows from the sets of rows and facts alone, the same at each site, in whatever order they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Final

from cluster.nouns import FactKind, Topic, time_text

if TYPE_CHECKING:
    from cluster.nouns import Fact, Instance, Provenance
    from storage_node.catalogue.protocol import Row

HIDDEN_RANK: Final = "~"
"""What the rank of a hidden instance's version begins with; that of any other begins with a year."""


def patient_key(study_instance_uid: str, values: Mapping[str, str | None]) -> str:
    """Return what tells patients apart: Patient ID and its issuer, or the study where there is no Patient ID.

    Those without a Patient ID are never taken for one patient. A line feed is in no normal form.
    """
    patient_id = values["patient_id"]
    if patient_id is None:
        return f"\n{study_instance_uid}"
    return f"{patient_id}\n{values['issuer_of_patient_id'] or ''}"


def precedence(provenance: Provenance, digest: str) -> str:
    """Return what decides which version stands for the entities above it: the least does.

    That is the one with the earliest provenance, then digest, in whatever order they came.
    """
    received_at = time_text(provenance.received_at)
    return "\n".join((received_at, provenance.calling_ae, provenance.called_ae, provenance.source, digest))


def currency(row: Row, choice: str | None = None) -> tuple[bool, int, str]:
    """Return what decides which of an instance's versions is the current one: the greatest is.

    Parameters
    ----------
    row : Row
    choice : str or None
        Digest of the version that was chosen, if one was.
    """
    digest = row.version.digest
    return digest == choice, row.order, precedence(row.provenance, digest)


def rank(precedes: str, *, hidden: bool) -> str:
    """Return a precedence such that those of hidden instances come after all others."""
    return f"{HIDDEN_RANK}{precedes}" if hidden else precedes


def fingerprint(instance: Instance, *, hidden: bool = False) -> int:
    """Return 63 bits that stand for an instance; those of a set are combined by exclusive or.

    What is hidden counts otherwise, not for nothing: else two catalogues would seem to agree of which one has
    hidden an instance, and the other has a fact by which it is not, yet no row.
    """
    return _hash("hidden", *_uids(instance)) if hidden else _hash(*_uids(instance))


def row_fingerprint(instance: Instance, digest: str, order: int, provenance: Provenance) -> int:
    """Return 63 bits that stand for all of a row that sites must agree on; to be combined in the same way."""
    return _hash("row", *_uids(instance), precedence(provenance, digest), str(order))


def fact_fingerprint(fact: Fact) -> int:
    """Return 63 bits that stand for a fact; to be combined in the same way."""
    return _hash("fact", fact.digest)


_WEIGHTS: Final = {FactKind.PURGED: 0, FactKind.DELETED: 2, FactKind.REJECTED: 2, FactKind.RETAINED: 2}
"""What holds where it was decided otherwise at the same time: what is careful does, and no purge ever."""


def authority(fact: Fact) -> tuple[int, int, str]:
    """Return what decides which of the facts of a topic holds: the greatest does (design, rule 3)."""
    return fact.epoch, _WEIGHTS.get(fact.kind, 1), fact.digest


def ruling(facts: Iterable[Fact], topic: Topic = Topic.DELETION) -> Fact | None:
    """Return the fact that holds: of the highest epoch, a deletion on a tie (design, rule 3)."""
    return max((fact for fact in facts if fact.kind.topic is topic), key=authority, default=None)


def rulings(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Return the facts about one subject that hold, one for each topic that was decided, in a fixed order."""
    holding: dict[Topic, Fact] = {}
    for fact in sorted(facts, key=authority):
        holding[fact.kind.topic] = fact
    return tuple(holding[topic] for topic in sorted(holding))


def is_hidden(facts: Iterable[Fact]) -> bool:
    """Return whether an instance of which these are all the facts, or those that hold, is in no answer."""
    held = tuple(facts)
    return _is_deleted(held) or _rejection(held) is not None


REJECTED_FOR_QUALITY: Final = "113001"
"""Code (DCM) of a rejection note's title by which instances may be shown to who looks for them (IHE IOCM)."""


def is_shown_to_some(facts: Iterable[Fact]) -> bool:
    """Return whether it is in no answer only because it was rejected for quality reasons."""
    held = tuple(facts)
    rejection = _rejection(held)
    return (
        not _is_deleted(held) and rejection is not None and rejection.detail("code") == REJECTED_FOR_QUALITY
    )


def purged(facts: Iterable[Fact]) -> frozenset[str]:
    """Return the digests of an instance's versions whose bytes have gone, or go, and did not come back since.

    A purge names the versions that go. Where anything else was decided with the same epoch it never held, and
    none goes by it. What was decided later names the version that came back with it.

    Parameters
    ----------
    facts : iterable of Fact
        All that are known about the instance, not only those that hold.
    """
    decided = sorted((fact for fact in facts if fact.kind.topic is Topic.DELETION), key=authority)
    gone: set[str] = set()
    for _, of_epoch in groupby(decided, key=lambda fact: fact.epoch):
        same = tuple(of_epoch)
        if same[-1].kind is FactKind.PURGED:
            gone.update(digest for fact in same for digest in (fact.detail("digests") or "").split())
        else:
            gone.difference_update(filter(None, (fact.detail("digest") for fact in same)))
    return frozenset(gone)


def _is_deleted(facts: Iterable[Fact]) -> bool:
    deletion = ruling(facts)
    return deletion is not None and deletion.kind is not FactKind.REVIVED


def _rejection(facts: Iterable[Fact]) -> Fact | None:
    rejection = ruling(facts, Topic.REJECTION)
    return rejection if rejection is not None and rejection.kind is FactKind.REJECTED else None


def chosen(facts: Iterable[Fact]) -> str | None:
    """Return the digest of the version that was chosen to be the current one; None if none is."""
    choice = ruling(facts, Topic.CHOICE)
    return None if choice is None else choice.detail("digest")


def _uids(instance: Instance) -> tuple[str, str, str]:
    return instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid


def _hash(*parts: str) -> int:
    return int.from_bytes(blake2b("\n".join(parts).encode(), digest_size=8).digest()) >> 1
