"""What every catalogue promises of rows and debts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cluster.nouns import Instance
from storage_node.catalogue.protocol import Catalogue, Counts
from tests.contract.catalogue.conftest import IDENTITY
from tests.contract.catalogue.rows import BEGIN, CT, MR, add, debt, row


async def test_a_row_comes_back_as_it_was_added(catalogue: Catalogue) -> None:
    added = row(name="Müller^Jürgen", character_set="ISO_IR 192")
    blocks = (added.version.digest, "0" * 64)
    added = replace(
        added, version=replace(added.version, block_digests=blocks), flags=("group_2", "odd_length")
    )
    assert await add(catalogue, added) == 1
    assert await catalogue.rows_of(added.version.instance) == [replace(added, order=1)]


async def test_an_instance_that_is_not_there_has_no_rows(catalogue: Catalogue) -> None:
    await add(catalogue, row())
    assert list(await catalogue.rows_of(Instance("1.2.3", "1.2.3.1", "1.2.3.1.2"))) == []
    assert list(await catalogue.rows_of(Instance("1.2.3", "1.2.3.2", "1.2.3.1.1"))) == []


async def test_a_row_added_twice_is_one_with_the_earlier_provenance(catalogue: Catalogue) -> None:
    first, later = row(minute=3, order=1), row(minute=7)
    for added in (first, later, first):
        await add(catalogue, added)
    assert await catalogue.rows_of(first.version.instance) == [first]
    earlier = row(minute=1, order=1)
    await add(catalogue, earlier)
    assert await catalogue.rows_of(first.version.instance) == [earlier]
    assert (await catalogue.counts()).versions == 1


async def test_each_version_has_an_order_above_those_that_were_there(catalogue: Catalogue) -> None:
    one, two, three = row(), row(content="two"), row(content="three")
    assert [await add(catalogue, added) for added in (one, two, three)] == [1, 2, 3]
    assert await add(catalogue, one) == 1, "a row that is there keeps its place"


async def test_an_order_that_other_sites_decided_is_kept(catalogue: Catalogue) -> None:
    one, two, three = row(), row(content="two"), row(content="three")
    assert await add(catalogue, replace(one, order=5)) == 5
    assert await add(catalogue, two) == 6
    assert await add(catalogue, replace(three, order=2)) == 2, "whatever is here"
    assert await add(catalogue, replace(one, order=9)) == 9, "a row that is there is raised"
    assert await add(catalogue, replace(one, order=2)) == 9, "and never lowered"


async def test_the_current_version_is_the_highest_in_order_then_received_last(catalogue: Catalogue) -> None:
    late, early, other = row(minute=9), row(content="early", minute=1), row(content="other", minute=4)
    for added in (late, early, other):
        await add(catalogue, added)
    digests = [found.version.digest for found in await catalogue.rows_of(late.version.instance)]
    assert digests == [added.version.digest for added in (other, early, late)]
    await add(catalogue, replace(early, order=3))
    (current, *_) = await catalogue.rows_of(late.version.instance)
    assert current.version.digest == other.version.digest, "of the same order the one received last"
    await add(catalogue, replace(early, order=4))
    (current, *_) = await catalogue.rows_of(late.version.instance)
    assert current.version.digest == early.version.digest


async def test_debts_are_a_set_in_the_order_they_were_made(catalogue: Catalogue) -> None:
    one, two = row(), row(content="two")
    await add(catalogue, one, [debt(one, "c"), debt(one, "b")])
    await catalogue.owe([debt(two), debt(one, "c")])
    assert list(await catalogue.debts(10)) == [debt(one, "c"), debt(one, "b"), debt(two)]
    assert list(await catalogue.debts(2)) == [debt(one, "c"), debt(one, "b")]
    assert list(await catalogue.debts(1, site="b")) == [debt(one, "b")]
    assert list(await catalogue.debts(10, site="b")) == [debt(one, "b"), debt(two)]


async def test_settled_debts_are_gone_and_others_stay(catalogue: Catalogue) -> None:
    one = row()
    await catalogue.owe([debt(one, "b"), debt(one, "c")])
    await catalogue.settle("b", row(content="never owed"))
    for _ in range(2):
        await catalogue.settle("b", one)
    assert list(await catalogue.debts(10)) == [debt(one, "c")]


async def test_a_debt_stays_where_the_row_is_newer_than_what_was_brought(
    catalogue: Catalogue,
) -> None:
    """Who brought it saw the row as it was before; since then a writer raised it, and noted the debt anew."""
    held = row(minute=5, order=3)
    await add(catalogue, replace(held, order=4), [debt(held, "b")])
    await catalogue.settle("b", held)
    assert list(await catalogue.debts(10)) == [debt(held, "b")]
    await catalogue.settle("b", replace(held, order=4))
    assert list(await catalogue.debts(10)) == []
    earlier = row(minute=1, order=4)
    await add(catalogue, earlier, [debt(held, "b")])
    await catalogue.settle("b", replace(held, order=4))
    assert list(await catalogue.debts(10)) == [debt(held, "b")]
    await catalogue.settle("b", earlier)
    assert list(await catalogue.debts(10)) == []


async def test_an_empty_catalogue_holds_nothing(catalogue: Catalogue) -> None:
    assert await catalogue.counts() == Counts(0, 0, 0, 0, 0, 0, 0)
    assert [entry async for entry in catalogue.walk()] == []
    assert list(await catalogue.debts(10)) == []


async def test_counts_are_of_entities_not_of_versions(catalogue: Catalogue) -> None:
    rows = [
        row("1.2", "1.2.1", "1.2.1.1"),
        row("1.2", "1.2.1", "1.2.1.1", content="again"),
        row("1.2", "1.2.1", "1.2.1.2"),
        row("1.2", "1.2.2", "1.2.1.2"),
        row("1.3", "1.3.1", "1.3.1.1"),
        row("1.4", "1.4.1", "1.4.1.1", patient_id=None),
        row("1.5", "1.5.1", "1.5.1.1", patient_id=None),
    ]
    for added in (*rows, *rows):
        await add(catalogue, added, [debt(added)])
    size_bytes = sum(added.version.size_bytes for added in rows)
    assert await catalogue.counts() == Counts(3, 4, 5, 6, 7, size_bytes, 7)


async def test_walking_gives_every_version_in_order(catalogue: Catalogue) -> None:
    rows = [
        row(sop=f"1.2.{n}", content=content, sop_class=CT if n % 2 else MR)
        for n in range(40)
        for content in "ab"
    ]
    await asyncio.gather(*(add(catalogue, added) for added in rows))
    walked = [entry async for entry in catalogue.walk()]
    assert [(entry.instance, entry.digest, entry.key) for entry in walked] == sorted(
        (r.version.instance, r.version.digest, r.version.key) for r in rows
    )


async def test_concurrent_additions_are_all_there(catalogue: Catalogue) -> None:
    versions = [row(content=str(n)) for n in range(20)]
    others = [row(sop=f"1.2.9.{n}") for n in range(100)]
    orders = await asyncio.gather(*(add(catalogue, added) for added in (*versions, *others)))
    assert sorted(orders[:20]) == list(range(1, 21)), "each version has an order of its own"
    counts = await catalogue.counts()
    assert (counts.versions, counts.instances) == (120, 101)


async def test_times_are_kept_to_the_microsecond(catalogue: Catalogue) -> None:
    added = row()
    provenance = replace(added.provenance, received_at=BEGIN.replace(microsecond=123_456))
    await add(catalogue, replace(added, provenance=provenance))
    (found,) = await catalogue.rows_of(added.version.instance)
    assert found.provenance == provenance


async def test_it_knows_which_site_it_is(catalogue: Catalogue) -> None:
    assert catalogue.name == IDENTITY.name
    assert await catalogue.identity() == IDENTITY
