"""What follows from the sets of rows and facts alone, the same at each site, in whatever order they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from cluster.nouns import FactKind

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
    received_at = provenance.received_at.astimezone(UTC).isoformat(timespec="microseconds")
    return "\n".join((received_at, provenance.calling_ae, provenance.called_ae, provenance.source, digest))


def currency(row: Row) -> tuple[int, str]:
    """Return what decides which of an instance's versions is the current one: the greatest is."""
    return row.order, precedence(row.provenance, row.version.digest)


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


def authority(fact: Fact) -> tuple[int, bool, str]:
    """Return what decides which of an instance's facts holds: the greatest does (design, rule 3)."""
    return fact.epoch, fact.kind is FactKind.DELETED, fact.digest


def ruling(facts: Iterable[Fact]) -> Fact | None:
    """Return the fact that holds: of the highest epoch, a deletion on a tie (design, rule 3)."""
    return max(facts, key=authority, default=None)


def hides(fact: Fact | None) -> bool:
    """Return whether an instance is in no answer where this is what holds."""
    return fact is not None and fact.kind is FactKind.DELETED


def is_hidden(facts: Iterable[Fact]) -> bool:
    """Return whether an instance of which these are all the facts is in no answer."""
    return hides(ruling(facts))


def _uids(instance: Instance) -> tuple[str, str, str]:
    return instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid


def _hash(*parts: str) -> int:
    return int.from_bytes(blake2b("\n".join(parts).encode(), digest_size=8).digest()) >> 1
