"""What every catalogue promises of a site's own copies: where they are, and when they were verified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

from storage_node.catalogue.protocol import Catalogue, Entry, Row
from tests.contract.catalogue.rows import BEGIN, row

MINUTE = timedelta(minutes=1)
LATER = BEGIN + timedelta(days=1)


def entry(of: Row, verified_at: datetime = BEGIN) -> Entry:
    version = of.version
    return Entry(
        instance=version.instance,
        digest=version.digest,
        key=version.key,
        size_bytes=version.size_bytes,
        order=of.order,
        provenance=of.provenance,
        verified_at=verified_at,
        is_streamed=bool(version.block_digests),
        flags=of.flags,
    )


async def every(entries: AsyncIterator[Entry]) -> list[Entry]:
    return [each async for each in entries]


async def test_an_entry_says_what_the_row_says(catalogue: Catalogue) -> None:
    whole = row(minute=3, order=4)
    streamed = row(sop="1.2.9", order=1)
    streamed = replace(streamed, version=replace(streamed.version, block_digests=("0" * 64,)))
    for added in (whole, streamed):
        await catalogue.add(added, verified_at=BEGIN + MINUTE)
    assert await every(catalogue.walk()) == [entry(whole, BEGIN + MINUTE), entry(streamed, BEGIN + MINUTE)]


async def test_walking_a_study_gives_all_of_it_and_no_other(catalogue: Catalogue) -> None:
    rows = [
        row(study, f"{study}.{series}", f"{sop:04}", content=content, order=1)
        for study, instances in (("1.1", 520), ("1.10", 2), ("1.2", 2))
        for series in (1, 2)
        for sop in range(instances // 2)
        for content in "ab"
    ]
    await asyncio.gather(*(catalogue.add(added, verified_at=BEGIN) for added in rows))
    walked = await every(catalogue.walk("1.1"))
    expected = [entry(each) for each in rows if each.version.instance.study_instance_uid == "1.1"]
    assert walked == sorted(expected, key=lambda each: (each.instance, each.digest))
    assert await every(catalogue.walk("1")) == []


async def test_the_time_of_verification_only_rises(catalogue: Catalogue) -> None:
    added = row(order=1)
    copy = added.version.instance, added.version.digest
    for given in (LATER, BEGIN):
        await catalogue.add(added, verified_at=given)
        assert await every(catalogue.walk()) == [entry(added, LATER)]
    for given in (BEGIN, LATER, LATER + MINUTE, LATER):
        await catalogue.verified([copy], given)
    assert await every(catalogue.walk()) == [entry(added, LATER + MINUTE)]
    await catalogue.add(added, verified_at=LATER + 2 * MINUTE)
    assert await every(catalogue.walk()) == [entry(added, LATER + 2 * MINUTE)]


async def test_only_the_copies_that_were_read_are_verified(catalogue: Catalogue) -> None:
    one, two = row(order=1), row(content="two", order=2)
    for added in (one, two):
        await catalogue.add(added, verified_at=BEGIN)
    instance = one.version.instance
    await catalogue.verified([(instance, one.version.digest), (instance, "0" * 64)], LATER)
    verified = {each.digest: each.verified_at for each in await every(catalogue.walk())}
    assert verified == {one.version.digest: LATER, two.version.digest: BEGIN}


async def test_the_least_verified_come_first_and_none_from_then_on(catalogue: Catalogue) -> None:
    rows = [row(sop=f"1.2.{n}", order=1) for n in range(5)]
    times = [BEGIN + minutes * MINUTE for minutes in (3, 1, 2, 1, 4)]
    for added, verified_at in zip(rows, times, strict=True):
        await catalogue.add(added, verified_at=verified_at)

    async def due(before: datetime, limit: int) -> list[int]:
        return [
            int(each.instance.sop_instance_uid[-1]) for each in await catalogue.least_verified(before, limit)
        ]

    assert await due(LATER, 10) == [1, 3, 2, 0, 4]
    assert await due(LATER, 2) == [1, 3]
    assert await due(BEGIN + 3 * MINUTE, 10) == [1, 3, 2]
    assert await due(BEGIN, 10) == []
    await catalogue.verified([(rows[1].version.instance, rows[1].version.digest)], LATER)
    assert await due(LATER, 10) == [3, 2, 0, 4]
    assert list(await catalogue.least_verified(LATER, 1)) == [entry(rows[3], times[3])]


async def test_a_row_names_the_copy_that_was_verified_last(catalogue: Catalogue) -> None:
    added, other = row(order=1), row(content="other", order=2)
    for each in (added, other):
        await catalogue.add(each, verified_at=BEGIN)
    moved = replace(added, version=replace(added.version, key="elsewhere"))
    assert (await catalogue.add(moved, verified_at=LATER)).key == "elsewhere"
    assert (await catalogue.add(added, verified_at=BEGIN)).key == "elsewhere"
    assert await catalogue.rows_of(added.version.instance) == [other, moved]
