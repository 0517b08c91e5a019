"""Facts, what they hide, summaries of studies, and when each copy was verified.

What a column means anew has a new name (`rank` was `precedence`): a process of before, which still has the
file open, fails from here on instead of adding rows that are in no summary.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import reduce
from itertools import groupby
from operator import itemgetter, xor

import sqlalchemy as sa
from alembic import op

from cluster.nouns import Instance, Provenance
from storage_node.catalogue.views import row_fingerprint

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STUDIES_AT_ONCE = 1000


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("series_instance_uid", sa.Text, primary_key=True),
        sa.Column("sop_instance_uid", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("decided_at", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("holds", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "summaries",
        sa.Column("study_instance_uid", sa.Text, primary_key=True),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    for table in ("series", "studies"):
        op.alter_column(table, "precedence", new_column_name="rank")
    op.add_column("versions", sa.Column("verified_at", sa.Text, nullable=False, server_default=""))
    op.add_column("versions", sa.Column("is_hidden", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE versions SET verified_at = received_at")
    op.create_index("versions_by_verification", "versions", ["verified_at"])
    _list_classes_of_current_versions()
    _summarise()


def _list_classes_of_current_versions() -> None:
    connection = op.get_bind()
    several = sa.text(
        "SELECT DISTINCT study_instance_uid, series_instance_uid FROM versions WHERE NOT is_current"
    )
    current = sa.text(
        "SELECT DISTINCT sop_class_uid FROM versions"
        " WHERE study_instance_uid = :study AND series_instance_uid = :series AND is_current"
    )
    change = sa.text(
        "UPDATE series SET sop_classes = :classes"
        " WHERE study_instance_uid = :study AND series_instance_uid = :series"
    )
    for study, series in connection.execute(several).all():
        uids = {"study": study, "series": series}
        classes = "\\".join(sorted(connection.execute(current, uids).scalars()))
        connection.execute(change, {**uids, "classes": classes})


def _summarise() -> None:
    connection = op.get_bind()
    change = sa.text("INSERT INTO summaries VALUES (:study, :entries, :fingerprint)")
    summaries = []
    for summary in _summaries(connection):
        summaries.append(summary)
        if len(summaries) == _STUDIES_AT_ONCE:
            connection.execute(change, summaries)
            summaries.clear()
    if summaries:
        connection.execute(change, summaries)


def _summaries(connection: sa.Connection) -> Iterator[dict[str, str | int]]:
    rows = connection.execution_options(yield_per=_STUDIES_AT_ONCE).execute(
        sa.text(
            "SELECT study_instance_uid, series_instance_uid, sop_instance_uid, digest, order_number,"
            " received_at, calling_ae, called_ae, source FROM versions ORDER BY study_instance_uid"
        )
    )
    for study, of_study in groupby(rows, key=itemgetter(0)):
        fingerprints = [_fingerprint(*row) for row in of_study]
        yield {"study": study, "entries": len(fingerprints), "fingerprint": reduce(xor, fingerprints)}


def _fingerprint(
    study: str,
    series: str,
    sop: str,
    digest: str,
    order: int,
    received_at: str,
    calling_ae: str,
    called_ae: str,
    source: str,
) -> int:
    provenance = Provenance(datetime.fromisoformat(received_at), calling_ae, called_ae, source)
    return row_fingerprint(Instance(study, series, sop), digest, order, provenance)
