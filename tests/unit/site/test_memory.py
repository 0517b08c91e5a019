"""What the site in memory offers to tests besides what every site does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster.nouns import SiteIdentity
from storage_node.site.failing import Call, FailingObjects, Fault
from storage_node.site.memory import MemoryObjects
from storage_node.site.protocol import SiteFull

IDENTITY = SiteIdentity("a", "", 1)


async def test_it_holds_as_much_as_it_may_and_its_uploads_count() -> None:
    site = MemoryObjects("a", IDENTITY, capacity_bytes=10)
    await site.put("x", [b"1234"], digest="", metadata={})
    upload = await site.upload("y", metadata={})
    await upload.write([b"1234"])
    assert await site.free_bytes() == 2
    with pytest.raises(SiteFull):
        await site.put("z", [b"123"], digest="", metadata={})
    with pytest.raises(SiteFull):
        await upload.write([b"123"])
    await upload.abort()
    await site.put("z", [b"123456"], digest="", metadata={})
    assert await site.free_bytes() == 0


async def test_its_clock_is_the_one_it_was_given() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    site = MemoryObjects("a", IDENTITY, now=lambda: now)
    await site.put("x", [b""], digest="", metadata={})
    assert (await site.head("x")).modified_at == now
    await site.upload("y", metadata={})
    assert await site.sweep(now) == 0
    assert await site.sweep(now + timedelta(microseconds=1)) == 1


async def test_a_site_may_be_full_on_purpose() -> None:
    def full_for_puts(call: Call) -> Fault | None:
        return Fault.FULL if call.method == "put" else None

    site = FailingObjects(MemoryObjects("a", IDENTITY), full_for_puts)
    with pytest.raises(SiteFull):
        await site.put("x", [b""], digest="", metadata={})
    assert await site.free_bytes() is None
