"""The first catalogue.

Texts are compared by their bytes (collation C): UIDs are read in pages by their order, and prefixes are
found by an index. What all that store into one series or study add to is in parts: none waits for another.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STUDY = 'study_instance_uid text COLLATE "C" NOT NULL'
_SERIES = f'{_STUDY}, series_instance_uid text COLLATE "C" NOT NULL'
_INSTANCE = f'{_SERIES}, sop_instance_uid text COLLATE "C" NOT NULL'


def _texts(*names: str) -> str:
    """Return columns that have a value."""
    return ", ".join(f'{name} text COLLATE "C" NOT NULL' for name in names)


def _matched(*names: str) -> str:
    """Return columns that queries are matched against, NULL for no value."""
    return ", ".join(f'{name} text COLLATE "C"' for name in names) + ", several boolean NOT NULL"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public")
    op.execute(f"CREATE TABLE site ({_texts('name', 'site_id')}, generation integer NOT NULL)")
    _create_versions()
    op.execute(
        f"CREATE TABLE facts ({_INSTANCE}, {_texts('digest')}, epoch bigint NOT NULL,"
        f" {_texts('kind', 'decided_at', 'decided_by', 'reason')}, holds boolean NOT NULL,"
        " PRIMARY KEY (study_instance_uid, series_instance_uid, sop_instance_uid, digest))"
    )
    op.execute(
        f"CREATE TABLE debts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_texts('site')},"
        f" {_INSTANCE}, {_texts('digest')},"
        " UNIQUE (site, study_instance_uid, series_instance_uid, sop_instance_uid, digest))"
    )
    _create_studies()
    _create_series()
    op.execute(
        f"CREATE TABLE summaries ({_STUDY}, part smallint NOT NULL, entries integer NOT NULL,"
        " fingerprint bigint NOT NULL, PRIMARY KEY (study_instance_uid, part))"
    )


def _create_versions() -> None:
    op.execute(
        f"CREATE TABLE versions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_INSTANCE},"
        f" {_texts('digest', 'key')}, size_bytes bigint NOT NULL, data_set_offset_bytes integer NOT NULL,"
        f" {_texts('sop_class_uid', 'transfer_syntax_uid')}, block_digests bytea NOT NULL,"
        f" {_texts('received_at', 'calling_ae', 'called_ae', 'source', 'flags')},"
        " order_number bigint NOT NULL, is_current boolean NOT NULL, header bytea NOT NULL,"
        f" {_matched('content_date', 'content_time', 'instance_number')},"
        f" {_texts('verified_at')}, is_hidden boolean NOT NULL,"
        " UNIQUE (study_instance_uid, series_instance_uid, sop_instance_uid, digest))"
    )
    op.execute("CREATE INDEX versions_by_verification ON versions (verified_at, id)")


def _create_studies() -> None:
    matched = _matched(
        *("patient_name", "patient_id", "issuer_of_patient_id", "patient_birth_date", "patient_birth_time"),
        *("patient_sex", "study_date", "study_time", "accession_number", "referring_physician_name"),
        *("study_description", "study_id"),
    )
    op.execute(
        f"CREATE TABLE studies ({_STUDY}, {_texts('rank')}, representative bigint NOT NULL,"
        f" {_texts('patient_key')}, {matched}, PRIMARY KEY (study_instance_uid))"
    )
    op.execute("CREATE INDEX studies_by_patient ON studies (patient_key, rank)")
    for column in ("patient_id", "patient_name", "study_date", "accession_number"):
        op.execute(f"CREATE INDEX studies_by_{column} ON studies ({column})")
    # Where one column holds several values, its index does not decide: a find looks at these, too, which are
    # empty as a rule. One index for all columns would hold every study where names have representations.
    for column, separators in (
        ("patient_id", r"\\"),
        ("patient_name", r"[\\=]"),
        ("study_date", r"\\"),
        ("accession_number", r"\\"),
    ):
        op.execute(
            f"CREATE INDEX studies_with_several_{column} ON studies (study_instance_uid)"
            f" WHERE {column} ~ '{separators}'"
        )
    op.execute("CREATE INDEX studies_by_part_of_name ON studies USING gin (patient_name public.gin_trgm_ops)")


def _create_series() -> None:
    matched = _matched(
        *("modality", "series_date", "series_time", "series_description", "body_part_examined"),
        *("series_number", "performed_procedure_step_start_date", "performed_procedure_step_start_time"),
    )
    key = "PRIMARY KEY (study_instance_uid, series_instance_uid"
    standing = f"{_texts('rank')}, representative bigint NOT NULL"
    op.execute(f"CREATE TABLE series ({_SERIES}, {standing}, {matched}, {key}))")
    op.execute("CREATE INDEX series_by_modality ON series (modality, study_instance_uid)")
    op.execute(
        f"CREATE TABLE series_counts ({_SERIES}, part smallint NOT NULL, instances integer NOT NULL,"
        f" versions integer NOT NULL, size_bytes bigint NOT NULL, fingerprint bigint NOT NULL, {key}, part))"
    )
    op.execute(f"CREATE TABLE series_classes ({_SERIES}, {_texts('sop_class_uid')}, {key}, sop_class_uid))")
    op.execute(
        "CREATE VIEW series_seen AS SELECT series.*, counted.*, listed.* FROM series"
        " CROSS JOIN LATERAL (SELECT coalesce(sum(instances), 0)::bigint AS instances,"
        " coalesce(sum(versions), 0)::bigint AS versions, coalesce(sum(size_bytes), 0)::bigint AS size_bytes,"
        " coalesce(bit_xor(fingerprint), 0) AS fingerprint FROM series_counts"
        " WHERE series_counts.study_instance_uid = series.study_instance_uid"
        " AND series_counts.series_instance_uid = series.series_instance_uid) AS counted"
        r" CROSS JOIN LATERAL (SELECT coalesce(string_agg(sop_class_uid, '\' ORDER BY sop_class_uid), '')"
        " AS sop_classes FROM series_classes"
        " WHERE series_classes.study_instance_uid = series.study_instance_uid"
        " AND series_classes.series_instance_uid = series.series_instance_uid) AS listed"
    )
