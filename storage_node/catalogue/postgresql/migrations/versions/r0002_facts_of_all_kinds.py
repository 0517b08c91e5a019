# ruff: noqa: S608  (names of columns are constants)
"""Facts of all kinds: their details, what was corrected, and the order in which changes are read.

Numbers are given before a transaction ends, so they do not come in order: changes are read by transaction,
as far as all before have ended, and by number in each.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, column in (
        ("facts", "details"),
        ("series", "corrections"),
        ("studies", "corrections"),
        ("site", "feed_id"),
        ("site", "usable_from"),
    ):
        op.execute(f"""ALTER TABLE {table} ADD COLUMN {column} text COLLATE "C" NOT NULL DEFAULT ''""")
    op.execute("UPDATE site SET feed_id = replace(gen_random_uuid()::text, '-', '')")
    numbers = "nextval('versions_id_seq')"
    op.execute(f"ALTER TABLE facts ADD COLUMN number bigint NOT NULL DEFAULT {numbers}")
    for table, number in (("versions", "id"), ("facts", "number")):
        op.execute(f"ALTER TABLE {table} ADD COLUMN added_in xid8 NOT NULL DEFAULT '0'")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN added_in SET DEFAULT pg_current_xact_id()")
        op.execute(f"CREATE INDEX {table}_by_change ON {table} (added_in, {number})")
    op.execute(
        "CREATE INDEX facts_that_hold ON facts"
        " (kind, study_instance_uid, series_instance_uid, sop_instance_uid) WHERE holds"
    )
    key = 'text COLLATE "C" NOT NULL'
    op.execute(
        f"CREATE TABLE former_patients (patient_key {key}, study_instance_uid {key},"
        " PRIMARY KEY (patient_key, study_instance_uid))"
    )
    op.execute("CREATE INDEX former_patients_of_study ON former_patients (study_instance_uid)")
    # Where few names have several representations, these indexes are small, and found by at once.
    op.execute(
        "CREATE INDEX studies_by_part_of_names ON studies USING gin (patient_name public.gin_trgm_ops)"
        r" WHERE patient_name ~ '[\\=]'"
    )
    op.execute(
        r"CREATE INDEX series_with_several_modalities ON series (study_instance_uid) WHERE modality ~ '\\'"
    )
    _show_corrections()


def _show_corrections() -> None:
    """Give the view the new column of its table, as its last: workers of before go on reading it."""
    columns = ", ".join(
        f"series.{column}"
        for column in (
            *("study_instance_uid", "series_instance_uid", "rank", "representative", "modality"),
            *("series_date", "series_time", "series_description", "body_part_examined", "series_number"),
            *("performed_procedure_step_start_date", "performed_procedure_step_start_time", "several"),
        )
    )
    op.execute(
        f"CREATE OR REPLACE VIEW series_seen AS SELECT {columns}, counted.*, listed.*, series.corrections"
        " FROM series CROSS JOIN LATERAL (SELECT coalesce(sum(instances), 0)::bigint AS instances,"
        " coalesce(sum(versions), 0)::bigint AS versions, coalesce(sum(size_bytes), 0)::bigint AS size_bytes,"
        " coalesce(bit_xor(fingerprint), 0) AS fingerprint FROM series_counts"
        " WHERE series_counts.study_instance_uid = series.study_instance_uid"
        " AND series_counts.series_instance_uid = series.series_instance_uid) AS counted"
        r" CROSS JOIN LATERAL (SELECT coalesce(string_agg(sop_class_uid, '\' ORDER BY sop_class_uid), '')"
        " AS sop_classes FROM series_classes"
        " WHERE series_classes.study_instance_uid = series.study_instance_uid"
        " AND series_classes.series_instance_uid = series.series_instance_uid) AS listed"
    )
