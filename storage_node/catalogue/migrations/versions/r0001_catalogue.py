"""The first catalogue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "site",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("site_id", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer),
    )
    op.create_table(
        "versions",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("series_instance_uid", sa.Text, nullable=False),
        sa.Column("sop_instance_uid", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("data_set_offset_bytes", sa.Integer, nullable=False),
        sa.Column("sop_class_uid", sa.Text, nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text, nullable=False),
        sa.Column("block_digests", sa.LargeBinary, nullable=False),
        sa.Column("received_at", sa.Text, nullable=False),
        sa.Column("calling_ae", sa.Text, nullable=False),
        sa.Column("called_ae", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("order_number", sa.BigInteger, nullable=False),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("content_date", sa.Text),
        sa.Column("content_time", sa.Text),
        sa.Column("instance_number", sa.Text),
        sa.Column("several", sa.Boolean, nullable=False),
        sa.UniqueConstraint("study_instance_uid", "series_instance_uid", "sop_instance_uid", "digest"),
    )
    op.create_table(
        "series",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("series_instance_uid", sa.Text, primary_key=True),
        sa.Column("precedence", sa.Text, nullable=False),
        sa.Column("representative", _ROW_ID, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("versions", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", sa.BigInteger, nullable=False),
        sa.Column("sop_classes", sa.Text, nullable=False),
        sa.Column("modality", sa.Text),
        sa.Column("series_date", sa.Text),
        sa.Column("series_time", sa.Text),
        sa.Column("series_description", sa.Text),
        sa.Column("body_part_examined", sa.Text),
        sa.Column("series_number", sa.Text),
        sa.Column("performed_procedure_step_start_date", sa.Text),
        sa.Column("performed_procedure_step_start_time", sa.Text),
        sa.Column("several", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("precedence", sa.Text, nullable=False),
        sa.Column("representative", _ROW_ID, nullable=False),
        sa.Column("patient_key", sa.Text, nullable=False),
        sa.Column("patient_name", sa.Text),
        sa.Column("patient_id", sa.Text),
        sa.Column("issuer_of_patient_id", sa.Text),
        sa.Column("patient_birth_date", sa.Text),
        sa.Column("patient_birth_time", sa.Text),
        sa.Column("patient_sex", sa.Text),
        sa.Column("study_date", sa.Text),
        sa.Column("study_time", sa.Text),
        sa.Column("accession_number", sa.Text),
        sa.Column("referring_physician_name", sa.Text),
        sa.Column("study_description", sa.Text),
        sa.Column("study_id", sa.Text),
        sa.Column("several", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("studies_by_patient", "studies", ["patient_key", "precedence"])
    op.create_index("studies_by_patient_id", "studies", ["patient_id"])
    op.create_index("studies_by_patient_name", "studies", ["patient_name"])
    op.create_index("studies_by_date", "studies", ["study_date"])
    op.create_index("studies_by_accession_number", "studies", ["accession_number"])
    op.create_index("studies_with_several", "studies", ["several"])
    op.create_table(
        "debts",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("series_instance_uid", sa.Text, nullable=False),
        sa.Column("sop_instance_uid", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.UniqueConstraint(
            "site", "study_instance_uid", "series_instance_uid", "sop_instance_uid", "digest"
        ),
    )
