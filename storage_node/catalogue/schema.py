"""The tables of a catalogue, one definition for each database that holds one.

`versions` and `facts` are the sets that everything follows from; `series`, `studies` and `summaries` are
views of them that are kept, and patients are read from `studies`. A series and a study name the version that
stands for them (`views.rank`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from cluster.nouns import Level
from storage_node.catalogue.attributes import KEPT

REVISION: Final = "0003"
"""The migration that the code is written for; a test holds it to be the last one."""

metadata: Final = MetaData()

_ROW_ID: Final = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _matched(*levels: Level) -> tuple[Column[str], ...]:
    """Return the columns of attributes that are matched, in normal form, NULL for no value."""
    return tuple(Column(a.column, Text) for a in KEPT if a.level in levels)


def _several() -> Column[bool]:
    """Whether any of the matched columns holds several values, so that equality does not decide."""
    return Column("several", Boolean, nullable=False)


site: Final = Table(
    "site",
    metadata,
    _text("name"),
    _text("site_id"),
    Column("generation", Integer),
    Column("feed_id", Text, nullable=False, server_default=""),
    Column("usable_from", Text, nullable=False, server_default=""),
)
"""One row: which site this is; a random name, by which a cursor of another catalogue's feed is known; and the
oldest revision whose code can work with this schema, where that is not its own alone (`revisions.check`)."""

versions: Final = Table(
    "versions",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("sop_instance_uid"),
    _text("digest"),
    _text("key"),
    Column("size_bytes", BigInteger, nullable=False),
    Column("data_set_offset_bytes", Integer, nullable=False),
    _text("sop_class_uid"),
    _text("transfer_syntax_uid"),
    Column("block_digests", LargeBinary, nullable=False),
    _text("received_at"),
    _text("calling_ae"),
    _text("called_ae"),
    _text("source"),
    _text("flags"),
    Column("order_number", BigInteger, nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("header", LargeBinary, nullable=False),
    *_matched(Level.IMAGE),
    _several(),
    Column("verified_at", Text, nullable=False, server_default=""),
    Column("is_hidden", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("study_instance_uid", "series_instance_uid", "sop_instance_uid", "digest"),
    Index("versions_by_verification", "verified_at"),
)

facts: Final = Table(
    "facts",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    _text("kind"),
    _text("decided_at"),
    _text("decided_by"),
    _text("reason"),
    Column("details", Text, nullable=False, server_default=""),
    Column("holds", Boolean, nullable=False),
    Column("number", _ROW_ID, nullable=False, server_default="0"),
    Index("facts_by_number", "number"),
    Index(
        "facts_that_hold",
        *("kind", "study_instance_uid", "series_instance_uid", "sop_instance_uid"),
        sqlite_where=text("holds"),
    ),
    sqlite_with_rowid=False,
)
"""One of the facts about a subject `holds` in each topic (`views.rulings`).

Facts and versions are numbered together, in the order in which they came: the change feed goes by it.
"""

series: Final = Table(
    "series",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    _text("rank"),
    Column("representative", _ROW_ID, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("versions", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("fingerprint", BigInteger, nullable=False),
    _text("sop_classes"),
    *_matched(Level.SERIES),
    _several(),
    Column("corrections", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

studies: Final = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    _text("rank"),
    Column("representative", _ROW_ID, nullable=False),
    _text("patient_key"),
    *_matched(Level.PATIENT, Level.STUDY),
    _several(),
    Column("corrections", Text, nullable=False, server_default=""),
    Index("studies_by_patient", "patient_key", "rank"),
    Index("studies_by_patient_id", "patient_id"),
    Index("studies_by_patient_name", "patient_name"),
    Index("studies_by_date", "study_date"),
    Index("studies_by_accession_number", "accession_number"),
    Index("studies_with_several", "several"),
    sqlite_with_rowid=False,
)

former_patients: Final = Table(
    "former_patients",
    metadata,
    Column("patient_key", Text, primary_key=True),
    Column("study_instance_uid", Text, primary_key=True),
    Index("former_patients_of_study", "study_instance_uid"),
    sqlite_with_rowid=False,
)
"""Patients that a study was said to belong to before a patient's correction gave it to another."""

summaries: Final = Table(
    "summaries",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("fingerprint", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Of studies of which there is a row or a fact: `protocol.StudySummary`."""

debts: Final = Table(
    "debts",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    _text("site"),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("sop_instance_uid"),
    _text("digest"),
    UniqueConstraint("site", "study_instance_uid", "series_instance_uid", "sop_instance_uid", "digest"),
)
