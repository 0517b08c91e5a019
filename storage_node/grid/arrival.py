"""What is asked of the grid when an instance arrives, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.nouns import Instance, Provenance, Version


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of an instance that arrived, besides its bytes."""

    instance: Instance
    sop_class_uid: str
    transfer_syntax_uid: str
    data_set_offset_bytes: int
    provenance: Provenance
    header: bytes
    """The packed header (`cluster.dicom.header.pack`)."""
    flags: tuple[str, ...] = ()
    """What was odd about it."""

    def version(
        self, *, digest: str, key: str, size_bytes: int, block_digests: tuple[str, ...] = ()
    ) -> Version:
        """Return the version that these bytes are."""
        return Version(
            instance=self.instance,
            digest=digest,
            key=key,
            size_bytes=size_bytes,
            data_set_offset_bytes=self.data_set_offset_bytes,
            sop_class_uid=self.sop_class_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
            block_digests=block_digests,
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """An acknowledgement: the version is durable at enough sites, and the others are owed it."""

    version: Version
    copies: tuple[str, ...]
    """Sites that hold the object and a confirmed row, in the order of the settings."""
    owed: tuple[str, ...]
    """Sites that do not, each of them noted as a debt at W others."""
    order: int
    """That of the row: more than 1 where the instance had another version already (`Row.order`)."""
    met_deleted: bool = False
    """Whether the instance was deleted when it came."""
