"""What every store of the cluster guarantees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from cluster.coordination.protocol import (
    ABSENT,
    Change,
    Conflict,
    Coordination,
    Entry,
    LeaseLost,
    Revision,
    Term,
)
from tests.contract.coordination.conftest import Stores
from tests.waiting import soon

TTL_S = 30.0


def watching(
    store: Coordination, prefix: str, after: Revision
) -> aclosing[AsyncGenerator[Sequence[Change], None]]:
    return aclosing(store.watch(prefix, after))


async def won(store: Coordination, election: str = "leader", value: bytes = b"a") -> Term:
    term = await store.campaign(election, value, await store.grant(TTL_S))
    assert term is not None
    return term


async def until_gone(store: Coordination, key: str) -> None:
    async with soon(f"{key} is gone with its lease"):
        while (await store.read(key)).entries:  # noqa: ASYNC110  the end of a lease raises no event
            await asyncio.sleep(0.05)


async def test_what_was_put_is_read_at_once_by_everybody(stores: Stores) -> None:
    here, there = stores
    revision = await here.put("settings/a", b"1")
    snapshot = await there.read("settings/")
    assert snapshot.entries == {"settings/a": Entry(b"1", revision, 0)}
    assert snapshot.revision >= revision


async def test_nothing_is_read_where_nothing_was_put(store: Coordination) -> None:
    assert (await store.read("settings/")).entries == {}


async def test_a_read_takes_what_begins_with_its_prefix_in_order_and_no_more(store: Coordination) -> None:
    for key in ("b/2", "a", "b/1", "c", "b"):
        await store.put(key, key.encode())
    assert list((await store.read("b/")).entries) == ["b/1", "b/2"]
    assert list((await store.read("b")).entries) == ["b", "b/1", "b/2"]
    assert list((await store.read("")).entries) == ["a", "b", "b/1", "b/2", "c"]


@pytest.mark.parametrize("value", [b"", b"\0\xff", "Größe".encode(), bytes(200_000)])
async def test_a_value_is_any_bytes(store: Coordination, value: bytes) -> None:
    await store.put("key/ä b", value)
    assert (await store.read("key/")).entries["key/ä b"].value == value


async def test_each_write_has_a_higher_revision(stores: Stores) -> None:
    here, there = stores
    revisions = [await one.put("a", b"1") for one in (here, there, here)]
    revisions.append(await here.delete("a"))
    revisions.append(await there.put("b", b""))
    assert revisions == sorted(set(revisions))


async def test_a_write_on_a_condition_is_made_when_it_holds(store: Coordination) -> None:
    first = await store.put("a", b"1", expected=ABSENT)
    second = await store.put("a", b"2", expected=first)
    assert (await store.read("a")).entries["a"] == Entry(b"2", second, 0)
    await store.delete("a", expected=second)
    assert (await store.read("a")).entries == {}
    await store.put("a", b"3", expected=ABSENT)


async def test_a_write_on_a_condition_that_does_not_hold_writes_nothing(stores: Stores) -> None:
    here, there = stores
    first = await here.put("a", b"1")
    second = await there.put("a", b"2")
    for expected in (first, ABSENT, second + 1):
        with pytest.raises(Conflict):
            await here.put("a", b"3", expected=expected)
        with pytest.raises(Conflict):
            await here.delete("a", expected=expected)
    with pytest.raises(Conflict):
        await here.put("b", b"3", expected=first)
    assert (await here.read("")).entries == {"a": Entry(b"2", second, 0)}


async def test_deleting_what_is_not_there_is_no_error_unless_it_was_expected(store: Coordination) -> None:
    await store.delete("a")
    await store.delete("a", expected=ABSENT)
    revision = await store.put("a", b"1")
    await store.delete("a")
    with pytest.raises(Conflict):
        await store.delete("a", expected=revision)


async def test_of_many_who_write_on_one_condition_one_does(stores: Stores) -> None:
    async def write(number: int) -> bool:
        try:
            await stores[number % 2].put("a", b"%d" % number, expected=ABSENT)
        except Conflict:
            return False
        return True

    done = await asyncio.gather(*(write(number) for number in range(10)))
    assert sum(done) == 1
    assert (await stores[0].read("a")).entries["a"].value == b"%d" % done.index(True)


async def test_many_who_write_without_a_condition_all_do(stores: Stores) -> None:
    start = (await stores[0].read("")).revision
    await asyncio.gather(*(stores[n % 2].put("a", b"%d" % n) for n in range(6)))
    async with soon("a change is seen"), watching(stores[0], "a", start) as changes:
        seen: list[bytes] = []
        while len(seen) < 6:
            seen += [change.entry.value for change in await anext(changes) if change.entry]
    assert sorted(seen) == [b"%d" % n for n in range(6)]


async def test_a_key_stays_for_as_long_as_its_lease_is_renewed(stores: Stores) -> None:
    here, there = stores
    lease = await here.grant(2)
    revision = await here.put("a", b"1", lease=lease)
    until = time.monotonic() + 1.5 * lease.ttl_s
    while time.monotonic() < until:
        renewed = await here.keep_alive(lease)
        assert (renewed.id, renewed.ttl_s) == (lease.id, lease.ttl_s)
        assert renewed.valid_until > lease.valid_until
        lease = renewed
        assert (await there.read("a")).entries["a"] == Entry(b"1", revision, lease.id)
        await asyncio.sleep(lease.ttl_s / 6)


async def test_a_key_goes_with_its_lease_but_not_before(stores: Stores) -> None:
    here, there = stores
    began = time.monotonic()
    lease = await here.grant(2)
    assert began + lease.ttl_s <= lease.valid_until <= time.monotonic() + lease.ttl_s
    await here.put("a", b"1", lease=lease)
    await here.put("stays", b"1")
    await until_gone(there, "a")
    assert time.monotonic() >= lease.valid_until
    assert list((await there.read("")).entries) == ["stays"]
    with pytest.raises(LeaseLost):
        await here.keep_alive(lease)
    with pytest.raises(LeaseLost):
        await here.put("a", b"1", lease=lease)
    await here.revoke(lease)


async def test_a_lease_is_at_least_as_long_as_was_asked(store: Coordination) -> None:
    assert (await store.grant(2.5)).ttl_s >= 2.5


async def test_a_lease_that_is_revoked_takes_its_keys_at_once(stores: Stores) -> None:
    here, there = stores
    lease = await here.grant(TTL_S)
    await here.put("a", b"1", lease=lease)
    await here.put("b", b"1", lease=lease)
    await here.revoke(lease)
    assert (await there.read("")).entries == {}
    await here.revoke(lease)


async def test_a_key_that_is_written_without_its_lease_outlives_it(store: Coordination) -> None:
    lease = await store.grant(TTL_S)
    await store.put("a", b"1", lease=lease)
    await store.put("a", b"2")
    await store.revoke(lease)
    assert (await store.read("a")).entries["a"].value == b"2"


async def test_a_key_goes_with_the_lease_that_it_was_written_with_last(store: Coordination) -> None:
    one, other = await store.grant(TTL_S), await store.grant(TTL_S)
    await store.put("a", b"1", lease=one)
    await store.put("a", b"1", lease=other)
    await store.revoke(one)
    assert (await store.read("a")).entries["a"].lease == other.id
    await store.revoke(other)
    assert (await store.read("a")).entries == {}


async def test_a_watch_yields_every_change_after_its_revision_once_and_in_order(stores: Stores) -> None:
    here, there = stores
    await here.put("w/a", b"0")
    after = (await here.read("w/")).revision
    first = await here.put("w/a", b"1")
    await here.put("x/a", b"1")
    lease = await here.grant(TTL_S)
    second = await here.put("w/b", b"2", lease=lease)
    async with soon("a change is seen"), watching(there, "w/", after) as changes:
        seen: list[Change] = []
        while len(seen) < 2:
            seen += await anext(changes)
        third = await here.delete("w/a")
        while len(seen) < 3:
            seen += await anext(changes)
        await here.revoke(lease)
        while len(seen) < 4:
            seen += await anext(changes)
    assert seen[:3] == [
        Change("w/a", Entry(b"1", first, 0), first),
        Change("w/b", Entry(b"2", second, lease.id), second),
        Change("w/a", None, third),
    ]
    assert (seen[3].key, seen[3].entry) == ("w/b", None)
    assert seen[3].revision > third


async def test_a_watch_from_the_middle_of_the_history_misses_nothing(store: Coordination) -> None:
    revisions = [await store.put(f"w/{number}", b"") for number in range(5)]
    async with soon("a change is seen"), watching(store, "w/", revisions[1]) as changes:
        seen: list[Change] = []
        while len(seen) < 3:
            seen += await anext(changes)
    assert [change.revision for change in seen] == revisions[2:]


async def test_a_watch_that_is_quiet_goes_on(stores: Stores) -> None:
    here, there = stores
    after = (await here.read("")).revision
    async with soon("a change is seen"), watching(there, "w/", after) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(2.5)
        assert not waiting.done()
        revision = await here.put("w/a", b"1")
        assert await waiting == [Change("w/a", Entry(b"1", revision, 0), revision)]


async def test_one_leads_at_a_time(stores: Stores) -> None:
    here, there = stores
    term = await won(here, value=b"here")
    assert await there.campaign("leader", b"there", await there.grant(TTL_S)) is None
    assert (await there.read("leader")).entries["leader"].value == b"here"
    assert (await there.read("leader")).entries["leader"].changed == term.token
    assert await there.campaign("other", b"there", await there.grant(TTL_S)) is not None


async def test_of_many_who_campaign_one_leads(stores: Stores) -> None:
    async def campaign(number: int) -> Term | None:
        store = stores[number % 2]
        return await store.campaign("leader", b"%d" % number, await store.grant(TTL_S))

    terms = await asyncio.gather(*(campaign(number) for number in range(8)))
    assert sum(term is not None for term in terms) == 1


async def test_who_leads_already_is_told_so_again(store: Coordination) -> None:
    lease = await store.grant(TTL_S)
    term = await store.campaign("leader", b"a", lease)
    assert term is not None
    assert await store.campaign("leader", b"a", lease) == term


async def test_each_term_has_a_higher_token(stores: Stores) -> None:
    here, there = stores
    first = await won(here)
    await here.resign(first)
    second = await won(there)
    third = await there.hand_over(second, b"b", await here.grant(TTL_S))
    assert first.token < second.token < third.token


async def test_nobody_leads_with_a_lease_that_is_over(store: Coordination) -> None:
    lease = await store.grant(TTL_S)
    await store.revoke(lease)
    with pytest.raises(LeaseLost):
        await store.campaign("leader", b"a", lease)
    assert (await store.read("leader")).entries == {}


async def test_a_term_ends_with_its_lease(stores: Stores) -> None:
    here, there = stores
    lease = await here.grant(2)
    assert await here.campaign("leader", b"a", lease)
    await until_gone(there, "leader")
    assert time.monotonic() >= lease.valid_until
    await won(there, value=b"b")


async def test_a_write_of_a_former_leader_is_refused(stores: Stores) -> None:
    here, there = stores
    former = await won(here)
    revision = await here.put("balancers", b"1", during=former)
    await here.resign(former)
    with pytest.raises(Conflict):
        await here.put("balancers", b"2", during=former)
    term = await won(there)
    for write in (
        here.put("balancers", b"2", during=former),
        here.put("balancers", b"2", during=former, expected=revision),
        here.delete("balancers", during=former),
    ):
        with pytest.raises(Conflict):
            await write
    assert (await there.read("balancers")).entries["balancers"].value == b"1"
    await there.put("balancers", b"3", during=term, expected=revision)
    await there.delete("balancers", during=term)


async def test_a_former_leader_cannot_end_the_term_of_another(stores: Stores) -> None:
    here, there = stores
    former = await won(here)
    await here.resign(former)
    await here.resign(former)
    term = await won(there)
    await here.resign(former)
    assert (await there.read("leader")).entries["leader"].changed == term.token


async def test_leading_is_handed_over_without_a_moment_in_which_nobody_does(stores: Stores) -> None:
    here, there = stores
    term = await won(here)
    lease = await there.grant(TTL_S)
    async with soon("a change is seen"), watching(there, "leader", term.token) as changes:
        new = await here.hand_over(term, b"b", lease)
        assert await anext(changes) == [Change("leader", Entry(b"b", new.token, lease.id), new.token)]
    with pytest.raises(Conflict):
        await here.hand_over(term, b"c", lease)
    await there.revoke(lease)
    assert (await here.read("leader")).entries == {}


async def test_leading_is_not_handed_over_to_who_has_gone(stores: Stores) -> None:
    here, there = stores
    term = await won(here)
    lease = await there.grant(TTL_S)
    await there.revoke(lease)
    with pytest.raises(LeaseLost):
        await here.hand_over(term, b"b", lease)
    assert (await there.read("leader")).entries["leader"].changed == term.token
