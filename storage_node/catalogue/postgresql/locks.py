"""Locks that a transaction holds until it ends: on what it changes, by numbers that stand for UIDs.

Who changes an instance locks it, and shares its study with others that change other instances of it. Who may
hide what stands for a study has that study alone: he must see all that is in it. So has who decides about a
study or a patient (`correcting`). UIDs of one number wait for
each other in vain, which does no harm.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from cluster.nouns import SiteIdentity
from storage_node.catalogue.columns import uids_of

if TYPE_CHECKING:
    import asyncpg

    from cluster.nouns import Instance

_LOCK: Final = (
    "SELECT name, site_id, generation,"
    " (SELECT count(pg_advisory_xact_lock_shared(number)) FROM unnest($1::bigint[]) AS number),"
    " (SELECT count(pg_advisory_xact_lock(number)) FROM unnest($2::bigint[]) AS number) FROM site"
)


async def lock(
    connection: asyncpg.Connection, instances: Collection[Instance], decided: Collection[Instance]
) -> SiteIdentity | None:
    """Lock instances and their studies, always in the same order: two that wait for each other are rare.

    Parameters
    ----------
    connection : asyncpg.Connection
        In a transaction.
    instances : collection of Instance
    decided : collection of Instance
        Those of them that may be hidden; and other subjects of facts.

    Returns
    -------
    SiteIdentity or None
        Whose catalogue the transaction has before it, until its end: nobody moves it away meanwhile.

    Raises
    ------
    asyncpg.DeadlockDetectedError
        Two waited for each other all the same: this one is to begin anew.
    """
    alone = {_number(instance.study_instance_uid) for instance in decided}
    shared = {_number(instance.study_instance_uid) for instance in instances} - alone
    numbers = {_number(*uids_of(instance)) for instance in instances}
    found = await connection.fetchrow(_LOCK, sorted(shared), [*sorted(alone), *sorted(numbers)])
    return None if found is None else SiteIdentity(*found[:3])


async def share(connection: asyncpg.Connection, patients: Collection[Instance]) -> None:
    """Share patients with others that let versions stand for studies of theirs.

    Raises
    ------
    asyncpg.DeadlockDetectedError
    """
    numbers = {_number(patient.study_instance_uid) for patient in patients}
    await connection.execute(_LOCK, sorted(numbers), [])


async def lock_alone(connection: asyncpg.Connection, study_instance_uid: str) -> None:
    """Have a study alone that was shared until now.

    Raises
    ------
    asyncpg.DeadlockDetectedError
    """
    await connection.execute(_LOCK, [], [_number(study_instance_uid)])


def _number(*uids: str) -> int:
    return int.from_bytes(blake2b("\n".join(uids).encode(), digest_size=8).digest(), signed=True)
