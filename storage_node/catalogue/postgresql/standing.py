# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""What a PostgreSQL catalogue keeps of its series and studies: who stands for them, counts, and summaries.

What each new instance changes is in parts, of which every process has one: the truth is their sum, and no
process waits for another. Who stands for an entity changes seldom, and is written only then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cluster.nouns import Level
from storage_node.catalogue import corrections
from storage_node.catalogue.columns import MATCHED_COLUMNS, matched, uids_of
from storage_node.catalogue.postgresql import correcting, locks
from storage_node.catalogue.postgresql.batch import Insert, Rows
from storage_node.catalogue.postgresql.tables import storable
from storage_node.catalogue.views import rank

if TYPE_CHECKING:
    import asyncpg

    from cluster.nouns import Instance
    from storage_node.catalogue.postgresql.difference import Difference

Ranks: TypeAlias = Mapping[tuple[str, str], str]
"""By what versions stand now: by study and series, and by study and nothing for the study itself."""

_Series: TypeAlias = tuple[str, str]
_Version: TypeAlias = tuple[str, str, str, str]
"""Three UIDs and a digest."""

_STUDY: Final = {"study_instance_uid": "text"}
_SERIES: Final = {**_STUDY, "series_instance_uid": "text"}
_COUNTS: Final = Rows(
    {
        **_SERIES,
        "part": "smallint",
        "instances": "integer",
        "versions": "integer",
        "size_bytes": "bigint",
        "fingerprint": "bigint",
    }
)
_COUNTED: Final = (
    "ON CONFLICT (study_instance_uid, series_instance_uid, part) DO UPDATE SET"
    " instances = held.instances + excluded.instances, versions = held.versions + excluded.versions,"
    " size_bytes = held.size_bytes + excluded.size_bytes,"
    " fingerprint = held.fingerprint # excluded.fingerprint"
)
_SUMMARIES: Final = Rows({**_STUDY, "part": "smallint", "entries": "integer", "fingerprint": "bigint"})
_SUMMED: Final = (
    "ON CONFLICT (study_instance_uid, part) DO UPDATE SET entries = held.entries + excluded.entries,"
    " fingerprint = held.fingerprint # excluded.fingerprint"
)
_CLASSES: Final = Rows({**_SERIES, "sop_class_uid": "text"})
_DROP_CLASSES: Final = "DELETE FROM series_classes WHERE study_instance_uid = $1 AND series_instance_uid = $2"
_LIST_CLASSES: Final = (
    "INSERT INTO series_classes SELECT DISTINCT study_instance_uid, series_instance_uid, sop_class_uid"
    " FROM versions WHERE study_instance_uid = $1 AND series_instance_uid = $2"
    " AND is_current AND NOT is_hidden"
)
RANKS: Final = (
    "ARRAY(SELECT ROW(study_instance_uid, ''::text, held.rank) FROM"
    " (SELECT DISTINCT study_instance_uid FROM given) AS asked"
    " JOIN studies AS held USING (study_instance_uid) UNION ALL"
    " SELECT ROW(study_instance_uid, series_instance_uid, held.rank) FROM"
    " (SELECT DISTINCT study_instance_uid, series_instance_uid FROM given) AS asked"
    " JOIN series AS held USING (study_instance_uid, series_instance_uid))"
)
"""By what versions stand for the studies and the series of the instances in `given`: UIDs, and a rank."""
_PRECEDENCE: Final = " || chr(10) || ".join(("received_at", "calling_ae", "called_ae", "source", "digest"))
"""`views.precedence`, as PostgreSQL works it out."""
_FIRST_IN_SERIES: Final = (
    f"SELECT sop_instance_uid, digest, {_PRECEDENCE} AS precedes, is_hidden, header FROM versions"
    " WHERE study_instance_uid = $1 AND series_instance_uid = $2 ORDER BY is_hidden, precedes LIMIT 1"
)
_FIRST_IN_STUDY: Final = (
    "SELECT versions.series_instance_uid, sop_instance_uid, digest, rank, header"
    " FROM series JOIN versions ON versions.id = representative"
    " WHERE series.study_instance_uid = $1 ORDER BY rank LIMIT 1"
)
_STANDING_COLUMNS: Final = (
    "versions.study_instance_uid, versions.series_instance_uid, sop_instance_uid, digest, rank, header"
)
_STANDING_FOR_STUDIES: Final = (
    f"SELECT {_STANDING_COLUMNS} FROM studies JOIN versions ON versions.id = representative"
    " WHERE studies.study_instance_uid = ANY($1)"
)
_STANDING_FOR_SERIES: Final = (
    f"SELECT {_STANDING_COLUMNS} FROM series JOIN versions ON versions.id = representative"
    " WHERE series.study_instance_uid = $1 AND series.series_instance_uid = $2"
)


@dataclass(frozen=True, slots=True)
class _Standing:
    """A version that stands for an entity, or may come to."""

    rank: str
    version: _Version
    header: bytes


def _stand(table: str, level: Level, named: Mapping[str, str], *more: str) -> tuple[Rows, str]:
    """Return what has versions stand for entities, where they precede those that do."""
    columns = (*more, *MATCHED_COLUMNS[level])
    rows = Rows(
        {
            **named,
            "rank": "text",
            **{f"of_{name}": "text" for name in ("study", "series", "sop", "digest")},
            **dict.fromkeys(columns, "text"),
            "several": "boolean",
            "corrections": "text",
        }
    )
    columns = ("rank", *columns, "several", "corrections")
    kept = ", ".join(columns)
    representative = (
        "(SELECT id FROM versions WHERE study_instance_uid = of_study AND series_instance_uid = of_series"
        " AND sop_instance_uid = of_sop AND digest = of_digest)"
    )
    changes = ", ".join(f"{name} = excluded.{name}" for name in ("representative", *columns))
    return rows, (
        f"INSERT INTO {table} AS held ({', '.join(named)}, representative, {kept})"
        f" SELECT {', '.join(named)}, {representative}, {kept} FROM {rows.source()}"
        f" ON CONFLICT ({', '.join(named)}) DO UPDATE SET {changes}"
    )


_STANDING_IN_SERIES, _STAND_IN_SERIES = _stand("series", Level.SERIES, _SERIES)
_STANDING_IN_STUDY, _STAND_IN_STUDY = _stand("studies", Level.STUDY, _STUDY, "patient_key")
_IF_IT_PRECEDES: Final = " WHERE held.rank > excluded.rank"


def added(differences: Sequence[Difference], *, part: int) -> list[Insert]:
    """Return what is added for some instances."""
    counts, summaries = _counted(differences, part)
    classes = {(*one.series, one.new_class) for one in differences if one.new_class is not None}
    return [
        Insert(_COUNTS, "series_counts AS held", _COUNTED, counts),
        Insert(_SUMMARIES, "summaries AS held", _SUMMED, summaries),
        Insert(_CLASSES, "series_classes", "ON CONFLICT DO NOTHING", sorted(classes)),
    ]


async def keep(connection: asyncpg.Connection, differences: Sequence[Difference], ranks: Ranks) -> None:
    """Keep what else follows of some instances; to be called when their rows are written."""
    for series in sorted({one.series for one in differences if one.has_lost_class}):
        await _list_classes(connection, series)
    await _let_stand(connection, differences, ranks)
    for study, of_study in sorted({one.series for one in differences if one.is_hidden_now}):
        await _look_for_another(connection, study, of_study)
    for one in differences:
        if one.is_corrected:
            await _stand_corrected(connection, one.instance)


def _counted(
    differences: Sequence[Difference], part: int
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return the rows of counts, by series, and of summaries, by study."""
    of_series: dict[_Series, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    of_study: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in differences:
        counts = of_series[one.series]
        counts[0] += one.shown
        counts[1] += one.versions
        counts[2] += one.size_bytes
        counts[3] ^= one.of_view
        summary = of_study[one.instance.study_instance_uid]
        summary[0] += one.entries
        summary[1] ^= one.of_summary
    return (
        [(*series, part, *counts) for series, counts in sorted(of_series.items()) if any(counts)],
        [(study, part, *summary) for study, summary in sorted(of_study.items()) if any(summary)],
    )


async def _list_classes(connection: asyncpg.Connection, series: _Series) -> None:
    """List the classes anew of a series that may have lost one."""
    await locks.lock_alone(connection, series[0])
    await connection.execute(_DROP_CLASSES, *series)
    await connection.execute(_LIST_CLASSES, *series)


async def _let_stand(connection: asyncpg.Connection, differences: Sequence[Difference], ranks: Ranks) -> None:
    """Let versions stand for what they precede."""
    in_series: dict[_Series, _Standing] = {}
    in_study: dict[str, _Standing] = {}
    for one in differences:
        study, series = one.series
        for ranked in one.ranked:
            standing = _Standing(ranked.rank, (*uids_of(one.instance), ranked.digest), ranked.header)
            if _precedes(standing, ranks.get((study, series)), in_series.get((study, series))):
                in_series[study, series] = standing
            if _precedes(standing, ranks.get((study, "")), in_study.get(study)):
                in_study[study] = standing
    await _stand_in_series(connection, in_series, more=_IF_IT_PRECEDES)
    await _stand_in_study(connection, in_study, more=_IF_IT_PRECEDES)


def _precedes(one: _Standing, rank: str | None, other: _Standing | None) -> bool:
    """Return whether a version is to stand, by the rank of what stands, and by another that is to."""
    return (rank is None or one.rank < rank) and (other is None or one.rank < other.rank)


async def _look_for_another(connection: asyncpg.Connection, study: str, series: str) -> None:
    """Let another version stand for a series, and its study, of which one was hidden."""
    (first,) = await connection.fetch(_FIRST_IN_SERIES, study, series)
    sop, digest, precedes, hidden, header = first
    standing = _Standing(rank(precedes, hidden=hidden), (study, series, sop, digest), header)
    await _stand_in_series(connection, {(study, series): standing})
    (first,) = await connection.fetch(_FIRST_IN_STUDY, study)
    of_series, sop, digest, ranked, header = first
    await _stand_in_study(connection, {study: _Standing(ranked, (study, of_series, sop, digest), header)})


async def _stand_corrected(connection: asyncpg.Connection, subject: Instance) -> None:
    """Let a correction show: of a series, of a study, or of all studies that are, or were, a patient's."""
    study, series, _ = uids_of(subject)
    if subject.level is Level.SERIES:
        found = await connection.fetch(_STANDING_FOR_SERIES, storable(study), storable(series))
        await _stand_in_series(connection, {(row[0], row[1]): _standing(*row) for row in found})
        return
    is_patient = subject.level is Level.PATIENT
    uids = await correcting.studies_of(connection, subject) if is_patient else [storable(study)]
    found = await connection.fetch(_STANDING_FOR_STUDIES, uids)
    await _stand_in_study(connection, {row[0]: _standing(*row) for row in found})


def _standing(study: str, series: str, sop: str, digest: str, ranked: str, header: bytes) -> _Standing:
    return _Standing(ranked, (study, series, sop, digest), header)


async def _stand_in_series(
    connection: asyncpg.Connection, standing: Mapping[_Series, _Standing], *, more: str = ""
) -> None:
    if not standing:
        return
    of = await correcting.series(connection, {series: one.header for series, one in standing.items()})
    rows = [
        (
            *series,
            one.rank,
            *one.version,
            *matched(of[series].values, Level.SERIES),
            corrections.to_text(of[series].details),
        )
        for series, one in sorted(standing.items())
    ]
    await connection.execute(_STAND_IN_SERIES + more, *_STANDING_IN_SERIES.parameters(rows))


async def _stand_in_study(
    connection: asyncpg.Connection, standing: Mapping[str, _Standing], *, more: str = ""
) -> None:
    if not standing:
        return
    of = await correcting.studies(connection, {study: one.header for study, one in standing.items()})
    rows = [
        (
            study,
            one.rank,
            *one.version,
            of[study].patients[-1],
            *matched(of[study].values, Level.STUDY),
            corrections.to_text(of[study].details),
        )
        for study, one in sorted(standing.items())
    ]
    await connection.execute(_STAND_IN_STUDY + more, *_STANDING_IN_STUDY.parameters(rows))
