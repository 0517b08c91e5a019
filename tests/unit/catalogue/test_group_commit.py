"""Changes that wait together are made together, and one that is at fault is so alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from storage_node.catalogue.postgresql.commit import AT_ONCE, GroupCommit
from storage_node.catalogue.protocol import CatalogueUnavailable


class Transactions:
    """Makes numbers of numbers, and fails at a negative one."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.is_down = False

    async def make(self, changes: Sequence[int]) -> Sequence[object]:
        await self.goes_on.wait()
        if self.is_down:
            raise CatalogueUnavailable("a", "it is down")
        if min(changes) < 0:
            raise ValueError("negative")
        self.made.append(list(changes))
        return [2 * change for change in changes]


async def test_changes_that_come_during_a_transaction_share_the_next_one() -> None:
    transactions = Transactions()
    commit = GroupCommit(transactions.make)
    transactions.goes_on.clear()
    first = asyncio.create_task(commit.do(0))
    await asyncio.sleep(0)
    others = [asyncio.create_task(commit.do(number)) for number in range(1, AT_ONCE + 2)]
    await asyncio.sleep(0)
    transactions.goes_on.set()
    assert [await first, *[await other for other in others]] == [2 * number for number in range(AT_ONCE + 2)]
    assert [len(made) for made in transactions.made] == [1, AT_ONCE, 1]


async def test_a_change_that_is_at_fault_does_not_make_the_others_fail() -> None:
    transactions = Transactions()
    commit = GroupCommit(transactions.make)
    outcomes = await asyncio.gather(*map(commit.do, (1, -1, 3)), return_exceptions=True)
    assert outcomes[0::2] == [2, 6]
    assert isinstance(outcomes[1], ValueError)


async def test_where_the_database_is_down_all_are_told_and_nothing_is_tried_one_by_one() -> None:
    transactions = Transactions()
    transactions.is_down = True
    commit = GroupCommit(transactions.make)
    outcomes = await asyncio.gather(*map(commit.do, (1, 2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [CatalogueUnavailable] * 2
    transactions.is_down = False
    assert await commit.do(4) == 8


async def test_a_caller_that_is_cancelled_takes_back_what_was_not_begun() -> None:
    transactions = Transactions()
    commit = GroupCommit(transactions.make)
    transactions.goes_on.clear()
    begun = asyncio.create_task(commit.do(1))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(commit.do(2))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    transactions.goes_on.set()
    await begun
    await commit.close()
    assert transactions.made == [[1]]
