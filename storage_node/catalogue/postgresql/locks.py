"""Transactions, and what they lock until they end: what they change, by numbers that stand for UIDs.

Who changes an instance locks it, and shares its study with others that change other instances of it. Who may
hide what stands for a study has that study alone: he must see all that is in it. So has who decides about a
study or a patient (`correcting`). UIDs of one number wait for
each other in vain, which does no harm.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import asyncpg

from storage_node.catalogue.columns import uids_of

if TYPE_CHECKING:
    from cluster.nouns import Instance

_ALONE: Final = "pg_advisory_xact_lock"
_SHARED: Final = "pg_advisory_xact_lock_shared"


@asynccontextmanager
async def transaction(
    connection: asyncpg.Connection, instances: Collection[Instance], decided: Collection[Instance]
) -> AsyncGenerator[None]:
    """Be in a transaction that begins by locking instances and their studies, in one round trip.

    They are locked in the same order always: two that wait for each other are rare. Each statement in it sees
    what others have committed before it (READ COMMITTED), so all that was done before the locks were had.

    Parameters
    ----------
    connection : asyncpg.Connection
    instances : collection of Instance
    decided : collection of Instance
        Those of them that may be hidden; and other subjects of facts.

    Raises
    ------
    asyncpg.DeadlockDetectedError
        Two waited for each other all the same: this one is to begin anew.
    """
    alone = {_number(instance.study_instance_uid) for instance in decided}
    shared, numbers = numbers_of(instances)
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
    try:
        await connection.execute(
            f"{begin}; {_lock(_SHARED, sorted(shared - alone))};"
            f" {_lock(_ALONE, [*sorted(alone), *sorted(numbers)])}"
        )
        yield
    except BaseException:
        with suppress(asyncpg.InterfaceError):  # the connection is gone, and with it the transaction
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


def numbers_of(instances: Iterable[Instance]) -> tuple[set[int], set[int]]:
    """Return what is locked of instances: their studies, which are shared, and they themselves."""
    studies, own = set(), set()
    for instance in instances:
        studies.add(_number(instance.study_instance_uid))
        own.add(_number(*uids_of(instance)))
    return studies, own


async def share(connection: asyncpg.Connection, patients: Collection[Instance]) -> None:
    """Share patients with others that let versions stand for studies of theirs.

    Raises
    ------
    asyncpg.DeadlockDetectedError
    """
    numbers = {_number(patient.study_instance_uid) for patient in patients}
    await connection.execute(_lock(_SHARED, sorted(numbers)))


async def lock_alone(connection: asyncpg.Connection, study_instance_uid: str) -> None:
    """Have a study alone that was shared until now.

    Raises
    ------
    asyncpg.DeadlockDetectedError
    """
    await connection.execute(_lock(_ALONE, [_number(study_instance_uid)]))


def _lock(function: str, numbers: Iterable[int]) -> str:
    """Return a statement that locks numbers in their order; a script can have several such."""
    array = ",".join(map(str, numbers))
    return f"SELECT {function}(unnest('{{{array}}}'::bigint[]))"


@lru_cache(maxsize=4096)
def _number(*uids: str) -> int:
    """Return what stands for UIDs. The catalogues of a process ask for the same."""
    return int.from_bytes(blake2b("\n".join(uids).encode(), digest_size=8).digest(), signed=True)
