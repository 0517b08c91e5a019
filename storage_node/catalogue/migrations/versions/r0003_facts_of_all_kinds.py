"""Facts of all kinds: their details, what was corrected, and numbers by which changes are read in order.

Names are compared in another form from here on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage_node.catalogue.migrations import folded_names

revision = "0003"
down_revision = "0002"
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
        op.add_column(table, sa.Column(column, sa.Text, nullable=False, server_default=""))
    op.add_column("facts", sa.Column("number", sa.Integer, nullable=False, server_default="0"))
    op.create_index("facts_by_number", "facts", ["number"])
    op.create_index(
        "facts_that_hold",
        "facts",
        ["kind", "study_instance_uid", "series_instance_uid", "sop_instance_uid"],
        sqlite_where=sa.text("holds"),
    )
    op.create_table(
        "former_patients",
        sa.Column("patient_key", sa.Text, primary_key=True),
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("former_patients_of_study", "former_patients", ["study_instance_uid"])
    op.execute(
        "UPDATE facts SET number = counted.number FROM"
        " (SELECT digest, row_number() OVER (ORDER BY decided_at, digest)"
        " + coalesce((SELECT max(id) FROM versions), 0) AS number FROM facts) AS counted"
        " WHERE counted.digest = facts.digest"
    )
    op.execute("UPDATE site SET feed_id = lower(hex(randomblob(8)))")
    _fold_names()


def _fold_names() -> None:
    connection = op.get_bind()
    pages = connection.execution_options(yield_per=folded_names.PAGE).exec_driver_sql(
        f"{folded_names.SELECT} WHERE coalesce(patient_name, '') || coalesce(referring_physician_name, '')"
        " GLOB '*[^a-z0-9^]*'"
    )
    renamed = [change for row in pages if (change := folded_names.changed(*row))]
    if renamed:
        connection.exec_driver_sql(
            "UPDATE studies SET patient_name = ?, referring_physician_name = ? WHERE study_instance_uid = ?",
            renamed,
        )
