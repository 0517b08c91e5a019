"""What every catalogue promises of its change feed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from cluster.nouns import Fact, FactKind, Instance
from storage_node.catalogue.feed import Added, Change
from storage_node.catalogue.protocol import Catalogue, Row
from tests.contract.catalogue.rows import BEGIN, MR, add, fact, row


async def everything(catalogue: Catalogue, size: int = 2) -> list[Change]:
    """Read the whole feed, in small pages."""
    found: list[Change] = []
    while page := await catalogue.changes(found[-1].cursor if found else None, size):
        assert len(page) <= size
        found += page
    return found


def said(changes: Sequence[Change]) -> list[tuple[Instance, str]]:
    return [(change.instance, change.digest) for change in changes]


def of(change: Row | Fact) -> tuple[Instance, str]:
    what = change.version if isinstance(change, Row) else change
    return what.instance, what.digest


async def make(catalogue: Catalogue, change: Row | Fact) -> None:
    if isinstance(change, Row):
        await add(catalogue, change)
    else:
        await catalogue.decide(change)


async def test_versions_and_facts_are_told_in_the_order_in_which_they_came(catalogue: Catalogue) -> None:
    one, other = row(), row(sop="9", minute=-5)
    correction = fact(Instance.patient("P1\n"), kind=FactKind.CORRECTED, details=(("00100010", "Roe"),))
    came: list[Row | Fact] = [
        other,
        fact(one),
        one,
        row(content="x"),
        correction,
        fact(one, 2, FactKind.REVIVED),
    ]
    for change in came:
        await make(catalogue, change)
    assert said(await everything(catalogue)) == [of(change) for change in came]
    assert said(await catalogue.changes(None, 100)) == [of(change) for change in came]


async def test_a_version_is_told_with_what_routing_goes_by(catalogue: Catalogue) -> None:
    added = row(minute=3, sop_class=MR)
    order = await add(catalogue, added)
    (change,) = await catalogue.changes(None, 10)
    version = added.version
    assert change.what == Added(
        instance=version.instance,
        digest=version.digest,
        sop_class_uid=MR,
        transfer_syntax_uid=version.transfer_syntax_uid,
        size_bytes=version.size_bytes,
        order=order,
        provenance=added.provenance,
    )
    assert change.fact is None


async def test_a_fact_is_told_whole_whatever_it_is_about(catalogue: Catalogue) -> None:
    subjects = (row().version.instance, *row().version.instance.above, Instance.patient("P1\n"))
    decided = [fact(subject, kind=FactKind.CORRECTED, details=(("00100010", "ß"),)) for subject in subjects]
    for one in decided:
        await catalogue.decide(one)
    assert [change.fact for change in await catalogue.changes(None, 10)] == decided


async def test_the_feed_goes_on_after_the_cursor_with_what_came_since(catalogue: Catalogue) -> None:
    await add(catalogue, row())
    (first,) = await catalogue.changes(None, 10)
    assert list(await catalogue.changes(first.cursor, 10)) == []
    await catalogue.decide(fact(row()))
    await add(catalogue, row(sop="9"))
    assert said(await catalogue.changes(first.cursor, 10)) == [of(fact(row())), of(row(sop="9"))]


async def test_what_is_added_again_is_no_change_but_is_told_as_it_is_by_now(catalogue: Catalogue) -> None:
    await add(catalogue, row(minute=5))
    await catalogue.decide(fact(row()))
    before = await everything(catalogue)
    earlier = row(minute=1, order=7)
    await catalogue.add(earlier, verified_at=BEGIN + timedelta(days=9))
    await catalogue.decide(fact(row()))
    await catalogue.verified([(earlier.version.instance, earlier.version.digest)], BEGIN + timedelta(days=10))
    assert list(await catalogue.changes(before[-1].cursor, 10)) == []
    after = await everything(catalogue)
    assert [change.cursor for change in after] == [change.cursor for change in before]
    assert isinstance(after[0].what, Added)
    assert (after[0].what.order, after[0].what.provenance) == (7, earlier.provenance)


async def test_what_is_hidden_or_not_current_any_more_is_told_too(catalogue: Catalogue) -> None:
    await catalogue.decide(fact(row()))
    await add(catalogue, row())
    await add(catalogue, row(content="x", order=5))
    assert len(await everything(catalogue)) == 3


@pytest.mark.parametrize(
    "broken",
    [
        "",
        ".",
        "nonsense",
        "{feed}",
        "another-feed.{place}",
        "{feed}.",
        "{feed}.1.2.3",
        "{feed}.-1",
        "{feed}.1.-1",
        "{feed}.1e3",
        "{feed}.1_0",
        "{feed}.²",
        "{feed}.9223372036854775808",
        "{feed}.9223372036854775807",
        "{feed}.9223372036854775807.9223372036854775807",
        "{feed}.99999999999999999999.1",
        "{feed}.1.99999999999999999999",
        "{cursor} ",
        "{cursor}\0",
        "\udcff",
    ],
)
async def test_a_cursor_that_is_none_or_of_another_feed_or_past_the_end_is_from_the_beginning(
    catalogue: Catalogue, broken: str
) -> None:
    await add(catalogue, row())
    (change,) = await catalogue.changes(None, 10)
    feed, _, place = change.cursor.partition(".")
    cursor = broken.format(feed=feed, place=place, cursor=change.cursor)
    assert list(await catalogue.changes(cursor, 10)) == [change]


async def test_what_many_add_at_once_is_told_once_each_to_one_who_reads_meanwhile(
    catalogue: Catalogue,
) -> None:
    rows = [row(f"1.{number % 7}", f"1.{number % 7}.1", f"1.{number}") for number in range(120)]
    changes: list[Row | Fact] = [*rows, *map(fact, rows[::10])]
    read: list[Change] = []

    async def reading() -> None:
        while len(read) < len(changes):
            await asyncio.sleep(0)  # a catalogue in memory lets nobody else have his turn
            read.extend(await catalogue.changes(read[-1].cursor if read else None, 7))

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(reading())
        for change in changes:
            tasks.create_task(make(catalogue, change))
    assert sorted(said(read)) == sorted(map(of, changes))


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_every_version_and_fact_is_told_once_in_pages_of_any_size(
    catalogue: Catalogue, size: int
) -> None:
    rows = [row(sop=f"1.{number % 5}", content=str(number % 3)) for number in range(12)]
    changes = [change for one in rows for change in (one, fact(one, 1 + one.version.size_bytes % 2), one)]
    for change in changes:
        await make(catalogue, change)
    assert said(await everything(catalogue, size)) == list(dict.fromkeys(map(of, changes)))
