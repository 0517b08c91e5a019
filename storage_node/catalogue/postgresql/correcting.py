# ruff: noqa: S608  (names of tables and columns are constants; values are bound)
"""What was corrected of what stands in a PostgreSQL catalogue, and of which patient each study is.

Who lets a version stand for a study shares the patient that the study is of: who corrects that patient has
him alone, so one of the two sees what the other did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from cluster.nouns import Fact, Instance, Level
from storage_node.catalogue import corrections
from storage_node.catalogue.attributes import described
from storage_node.catalogue.columns import FACT_COLUMNS, fact_of, uids_of
from storage_node.catalogue.corrections import Corrected
from storage_node.catalogue.postgresql import locks
from storage_node.catalogue.postgresql.batch import Rows
from storage_node.catalogue.postgresql.tables import storable
from storage_node.catalogue.views import patient_key

if TYPE_CHECKING:
    import asyncpg

_UIDS: Final = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
_SUBJECTS: Final = Rows(dict.fromkeys(_UIDS, "text"))
_OF_GIVEN: Final = " AND ".join(f"held.{name} = given.{name}" for name in _UIDS)
_COLUMNS: Final = ", ".join(f"held.{name}" for name in (*_UIDS, *FACT_COLUMNS.split(", ")))
_HOLDING: Final = (
    f"SELECT {_COLUMNS} FROM {_SUBJECTS.source()} JOIN facts AS held ON {_OF_GIVEN} WHERE held.holds"
)
_FORMER: Final = Rows({"patient_key": "text", "study_instance_uid": "text"})
_NOTE_FORMER: Final = _FORMER.insert("former_patients", "ON CONFLICT DO NOTHING")
_FORGET_FORMER: Final = "DELETE FROM former_patients WHERE study_instance_uid = ANY($1)"
_STUDIES_OF: Final = (
    "SELECT study_instance_uid FROM studies WHERE patient_key = $1"
    " UNION SELECT study_instance_uid FROM former_patients WHERE patient_key = $1 ORDER BY 1"
)


async def studies(connection: asyncpg.Connection, headers: Mapping[str, bytes]) -> Mapping[str, Corrected]:
    """Return what is to be said of studies, and note which patients they were said to belong to.

    Parameters
    ----------
    connection : asyncpg.Connection
        In a transaction that has a lock on each of the studies.
    headers : mapping of str to bytes
        The packed header of the version that stands for each, by UID.
    """
    guessed = [Instance.patient(patient_key(uid, described(header))) for uid, header in headers.items()]
    known = await _holding(connection, [*(Instance(uid, "", "") for uid in headers), *guessed])
    corrected = {
        uid: await _correct(connection, corrections.study(uid, header), known)
        for uid, header in headers.items()
    }
    former = [(key, uid) for uid, of in corrected.items() for key in of.patients[:-1]]
    await connection.execute(_FORGET_FORMER, [storable(uid) for uid in headers])
    if former:
        await connection.execute(_NOTE_FORMER, *_FORMER.parameters(former))
    return corrected


async def series(
    connection: asyncpg.Connection, headers: Mapping[tuple[str, str], bytes]
) -> Mapping[tuple[str, str], Corrected]:
    """Return what is to be said of series, by study and series (see `studies`)."""
    known = await _holding(connection, [Instance(*uids, "") for uids in headers])
    return {
        uids: await _correct(connection, corrections.series(*uids, header), known)
        for uids, header in headers.items()
    }


async def studies_of(connection: asyncpg.Connection, patient: Instance) -> Sequence[str]:
    """Return the studies that are a patient's, or were said to be."""
    found = await connection.fetch(_STUDIES_OF, storable(patient.study_instance_uid))
    return [uid for (uid,) in found]


async def _correct(
    connection: asyncpg.Connection,
    correcting: corrections.Correcting,
    known: dict[Instance, tuple[Fact, ...]],
) -> Corrected:
    async def holding_of(subject: Instance) -> Fact | None:
        if subject not in known:
            known.update(await _holding(connection, [subject]))
        return corrections.holding(known[subject])

    return await corrections.followed(correcting, holding_of)


async def _holding(
    connection: asyncpg.Connection, subjects: Collection[Instance]
) -> dict[Instance, tuple[Fact, ...]]:
    """Return the facts that hold of some subjects. Patients among them are shared from here on."""
    patients = [subject for subject in subjects if subject.level is Level.PATIENT]
    if patients:
        await locks.share(connection, patients)
    by_uids = {tuple(map(storable, uids_of(subject))): subject for subject in subjects}
    facts: dict[Instance, tuple[Fact, ...]] = dict.fromkeys(subjects, ())
    for study, of_series, sop, *fields in await _read(connection, subjects):
        subject = by_uids[study, of_series, sop]
        facts[subject] += (fact_of(subject, *fields),)
    return facts


async def _read(connection: asyncpg.Connection, subjects: Iterable[Instance]) -> Sequence[asyncpg.Record]:
    rows = sorted({uids_of(subject) for subject in subjects})
    found: Sequence[asyncpg.Record] = await connection.fetch(_HOLDING, *_SUBJECTS.parameters(rows))
    return found
