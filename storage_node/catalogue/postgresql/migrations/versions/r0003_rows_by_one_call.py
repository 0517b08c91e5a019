# ruff: noqa: S608  (names of tables and columns are constants)
"""A function that adds rows of instances of which nothing is known: one round trip instead of four.

It only adds to the schema: the release before goes on working with it.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROW = (
    "study_instance_uid text, series_instance_uid text, sop_instance_uid text, digest text, key text,"
    " size_bytes bigint, data_set_offset_bytes integer, sop_class_uid text, transfer_syntax_uid text,"
    " block_digests bytea, received_at text, calling_ae text, called_ae text, source text, flags text,"
    " order_number bigint, is_current boolean, header bytea, content_date text, content_time text,"
    " instance_number text, several boolean, verified_at text, is_hidden boolean"
)
_COLUMNS = ", ".join(column.split()[0] for column in _ROW.split(","))
_SUBJECT = "study_instance_uid text, series_instance_uid text, sop_instance_uid text, rank text"
_OF_STUDY = "held.study_instance_uid = new.study_instance_uid"
_OF_SERIES = f"{_OF_STUDY} AND held.series_instance_uid = new.series_instance_uid"
_OF_INSTANCE = f"{_OF_SERIES} AND held.sop_instance_uid = new.sop_instance_uid"
_BY_SERIES = 'study_instance_uid COLLATE "C", series_instance_uid COLLATE "C"'


def upgrade() -> None:
    # Each statement of a volatile function sees what was committed before it: all that was done before the
    # locks were had. Whose catalogue it is comes next: while this transaction lasts, nobody moves it away.
    op.execute(
        "CREATE FUNCTION add_new(of_name text, of_site_id text, of_generation integer,"
        " shared bigint[], alone bigint[], part_of_all smallint, given json) RETURNS boolean"
        " LANGUAGE plpgsql VOLATILE AS $$\nBEGIN\n"
        "PERFORM pg_advisory_xact_lock_shared(number) FROM unnest(shared) AS number;\n"
        "PERFORM pg_advisory_xact_lock(number) FROM unnest(alone) AS number;\n"
        "IF NOT EXISTS (SELECT 1 FROM site"
        " WHERE name = of_name AND site_id = of_site_id AND generation = of_generation)\n"
        f"OR NOT ({_look()})\n"
        "THEN RETURN false; END IF;\n"
        f"{_insert()};\n"
        "RETURN true;\nEND $$"
    )
    op.execute("ALTER TABLE site ALTER COLUMN usable_from SET DEFAULT '0002'")
    op.execute("UPDATE site SET usable_from = '0002'")


def _look() -> str:
    """Return what looks whether nothing is known, and others go on to stand: by keys, in each table once."""
    return (
        f"WITH new AS MATERIALIZED (SELECT * FROM json_to_recordset(given) AS new ({_SUBJECT}))\n"
        f"SELECT NOT EXISTS (SELECT 1 FROM new JOIN versions AS held ON {_OF_INSTANCE})\n"
        f"AND NOT EXISTS (SELECT 1 FROM new JOIN facts AS held ON {_OF_INSTANCE})\n"
        f"AND NOT EXISTS (SELECT 1 FROM new LEFT JOIN series AS held ON {_OF_SERIES}"
        " WHERE held.rank IS NULL OR held.rank > new.rank)\n"
        f"AND NOT EXISTS (SELECT 1 FROM new LEFT JOIN studies AS held ON {_OF_STUDY}"
        " WHERE held.rank IS NULL OR held.rank > new.rank)"
    )


def _insert() -> str:
    new = f"SELECT * FROM json_to_recordset(given) AS new ({_ROW}, of_view bigint, of_summary bigint)"
    return (
        f"WITH new AS MATERIALIZED ({new}),\n"
        f"versions_added AS (INSERT INTO versions ({_COLUMNS}) SELECT {_COLUMNS} FROM new),\n"
        "series_counted AS (INSERT INTO series_counts AS held SELECT study_instance_uid,"
        " series_instance_uid, part_of_all, count(*), count(*), sum(size_bytes), bit_xor(of_view)"
        f" FROM new GROUP BY study_instance_uid, series_instance_uid ORDER BY {_BY_SERIES}"
        " ON CONFLICT (study_instance_uid, series_instance_uid, part) DO UPDATE SET"
        " instances = held.instances + excluded.instances, versions = held.versions + excluded.versions,"
        " size_bytes = held.size_bytes + excluded.size_bytes,"
        " fingerprint = held.fingerprint # excluded.fingerprint),\n"
        "studies_summed AS (INSERT INTO summaries AS held SELECT study_instance_uid, part_of_all, count(*),"
        ' bit_xor(of_summary) FROM new GROUP BY study_instance_uid ORDER BY study_instance_uid COLLATE "C"'
        " ON CONFLICT (study_instance_uid, part) DO UPDATE SET entries = held.entries + excluded.entries,"
        " fingerprint = held.fingerprint # excluded.fingerprint)\n"
        "INSERT INTO series_classes SELECT DISTINCT study_instance_uid, series_instance_uid, sop_class_uid"
        " FROM new ON CONFLICT DO NOTHING"
    )
