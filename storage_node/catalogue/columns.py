"""How rows, entries and facts lie in the columns of a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import Table

from cluster.nouns import Debt, Fact, FactKind, Instance, Level, Provenance, Version, time_text
from storage_node.catalogue import corrections
from storage_node.catalogue.attributes import KEPT, values_in
from storage_node.catalogue.feed import Added
from storage_node.catalogue.protocol import Entry, Row

_MATCHED: Final = {
    level: tuple(a for a in KEPT if a.level in levels)
    for level, levels in (
        (Level.STUDY, (Level.PATIENT, Level.STUDY)),
        (Level.SERIES, (Level.SERIES,)),
        (Level.IMAGE, (Level.IMAGE,)),
    )
}
MATCHED_COLUMNS: Final = {level: tuple(a.column for a in kept) for level, kept in _MATCHED.items()}
"""Names of the matched columns of each table."""

ROW_COLUMNS: Final = (
    "digest, key, size_bytes, data_set_offset_bytes, sop_class_uid, transfer_syntax_uid, block_digests,"
    " received_at, calling_ae, called_ae, source, flags, order_number, header"
)
"""What `row_of` reads, after the three UIDs."""

ENTRY_COLUMNS: Final = (
    "study_instance_uid, series_instance_uid, sop_instance_uid, digest, key, size_bytes, order_number,"
    " received_at, calling_ae, called_ae, source, verified_at, length(block_digests) > 0, flags"
)
"""What `entry_of` reads."""

ADDED_COLUMNS: Final = (
    "study_instance_uid, series_instance_uid, sop_instance_uid, digest, sop_class_uid, transfer_syntax_uid,"
    " size_bytes, order_number, received_at, calling_ae, called_ae, source"
)
"""What `added_of` reads."""

FACT_COLUMNS: Final = "epoch, kind, decided_at, decided_by, reason, details"
"""What `fact_of` reads, after the three UIDs."""


def insert(table: Table, *first: str) -> str:
    """Return the statement that inserts a row into a table, its `id` being given, or else the database's."""
    names = [*first, *(column.name for column in table.columns if column.name != "id")]
    values = ", ".join("?" for _ in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values})"  # noqa: S608  # constants


def uids_of(instance: Instance) -> tuple[str, str, str]:
    """Return an instance's UIDs, from the study down."""
    return instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid


def debt_row(debt: Debt) -> tuple[str, ...]:
    """Return the columns of a debt."""
    return (debt.site, *uids_of(debt.instance), debt.digest)


def provenance_row(provenance: Provenance) -> tuple[str, str, str, str]:
    """Return the columns of a provenance; they are ordered as provenances are."""
    metadata = provenance.to_metadata()
    return metadata["received-at"], metadata["calling-ae"], metadata["called-ae"], metadata["source"]


def matched(described_as: Mapping[str, str | None], level: Level) -> Sequence[str | bool | None]:
    """Return the values of a table's matched columns, and whether any of them holds several."""
    return _and_several([described_as[column] for column in MATCHED_COLUMNS[level]])


@lru_cache(maxsize=256)
def matched_in_instance(header: bytes) -> Sequence[str | bool | None]:
    """Return the like of an instance, of which nothing is corrected. The catalogues of a process share it."""
    return _and_several(values_in(header, _MATCHED[Level.IMAGE]))


def _and_several(values: Sequence[str | None]) -> Sequence[str | bool | None]:
    return (*values, any(value is not None and ("\\" in value or "=" in value) for value in values))


def version_row(row: Row, verified_at: str, *, is_current: bool, is_hidden: bool) -> tuple[object, ...]:
    """Return the columns of a row of `versions`, but its `id`."""
    version = row.version
    return (
        *uids_of(version.instance),
        version.digest,
        version.key,
        version.size_bytes,
        version.data_set_offset_bytes,
        version.sop_class_uid,
        version.transfer_syntax_uid,
        bytes.fromhex("".join(version.block_digests)),
        *provenance_row(row.provenance),
        "\n".join(row.flags),
        row.order,
        is_current,
        row.header,
        *matched_in_instance(row.header),
        verified_at,
        is_hidden,
    )


def row_of(
    instance: Instance,
    digest: str,
    key: str,
    size_bytes: int,
    data_set_offset_bytes: int,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    block_digests: bytes,
    received_at: str,
    calling_ae: str,
    called_ae: str,
    source: str,
    flags: str,
    order: int,
    header: bytes,
) -> Row:
    """Return what `ROW_COLUMNS` hold."""
    blocks = block_digests.hex()
    return Row(
        Version(
            instance=instance,
            digest=digest,
            key=key,
            size_bytes=size_bytes,
            data_set_offset_bytes=data_set_offset_bytes,
            sop_class_uid=sop_class_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            block_digests=tuple(blocks[at : at + 64] for at in range(0, len(blocks), 64)),
        ),
        Provenance(datetime.fromisoformat(received_at), calling_ae, called_ae, source),
        header,
        _flags(flags),
        order,
    )


def entry_of(
    study: str,
    series: str,
    sop: str,
    digest: str,
    key: str,
    size_bytes: int,
    order: int,
    received_at: str,
    calling_ae: str,
    called_ae: str,
    source: str,
    verified_at: str,
    is_streamed: int,
    flags: str,
) -> Entry:
    """Return what `ENTRY_COLUMNS` hold."""
    return Entry(
        instance=Instance(study, series, sop),
        digest=digest,
        key=key,
        size_bytes=size_bytes,
        order=order,
        provenance=Provenance(datetime.fromisoformat(received_at), calling_ae, called_ae, source),
        verified_at=datetime.fromisoformat(verified_at),
        is_streamed=bool(is_streamed),
        flags=_flags(flags),
    )


def _flags(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("\n")) if joined else ()


def added_of(
    study: str,
    series: str,
    sop: str,
    digest: str,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    size_bytes: int,
    order: int,
    received_at: str,
    calling_ae: str,
    called_ae: str,
    source: str,
) -> Added:
    """Return what `ADDED_COLUMNS` hold."""
    return Added(
        instance=Instance(study, series, sop),
        digest=digest,
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        size_bytes=size_bytes,
        order=order,
        provenance=Provenance(datetime.fromisoformat(received_at), calling_ae, called_ae, source),
    )


def fact_row(fact: Fact) -> tuple[str | int, ...]:
    """Return the columns of a fact, but whether it holds."""
    decided_at = time_text(fact.decided_at)
    return (
        *uids_of(fact.instance),
        fact.digest,
        fact.epoch,
        fact.kind.value,
        decided_at,
        fact.decided_by,
        fact.reason,
        corrections.to_text(fact.details),
    )


def fact_of(
    instance: Instance, epoch: int, kind: str, decided_at: str, decided_by: str, reason: str, details: str
) -> Fact:
    """Return what `FACT_COLUMNS` hold."""
    return Fact(
        instance,
        epoch,
        FactKind(kind),
        datetime.fromisoformat(decided_at),
        decided_by,
        reason,
        corrections.from_text(details),
    )
