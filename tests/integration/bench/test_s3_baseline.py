from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from tests.bench import instances
from tests.bench.bare_s3 import BareClient, Bucket, Listed, open_client
from tests.bench.legs import bare
from tests.bench.object_servers import ObjectServers, make_buckets, object_servers
from tests.bench.processes import Broken
from tests.bench.s3_baseline import OBJECT_SUFFIX, BareJob

T = TypeVar("T")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServers]:
    with object_servers(tmp_path_factory.mktemp("bench")) as running:
        yield running


def _ask(call: Callable[[BareClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with open_client(1) as client:
            return await call(client)

    return asyncio.run(ask())


def _get(bucket: Bucket, key: str) -> bytes:
    return _ask(lambda client: client.get(bucket, key))


def _list(bucket: Bucket) -> list[Listed]:
    return _ask(lambda client: client.list(bucket, OBJECT_SUFFIX))


def test_the_bare_client_puts_whole_images_everywhere_and_gets_and_copies_them(
    servers: ObjectServers,
) -> None:
    job = BareJob("put", servers.buckets(), at_once=2, count=3, run=5)
    assert bare(job).instances == 6
    made = instances.ct_image(instances.uids(5, 1, 2))
    for bucket in servers.buckets():
        listed = _list(bucket)
        assert len(listed) == 6
        (last,) = [one.key for one in listed if made.uids.instance.decode() in one.key]
        content = _get(bucket, last)
        assert len(content) == len(made.header) + made.pixel_bytes
        assert made.uids.instance in content
    assert bare(BareJob("get", servers.buckets(), at_once=2, count=3, run=5)).instances == 6
    target = servers.bucket("c", "copied")
    make_buckets([target])
    assert bare(BareJob("copy", (servers.bucket("a"), target), at_once=4)).instances == 6
    assert [one.key for one in _list(target)] == [one.key for one in _list(servers.bucket("a"))]


def test_the_bare_client_uploads_large_instances_whole_in_parts(servers: ObjectServers) -> None:
    assert bare(BareJob("upload", servers.buckets(), count=1, frames=40, run=6)).instances == 1
    for bucket in servers.buckets():
        assert [one.size_bytes for one in _list(bucket) if one.size_bytes > 10**6] == [
            40 * instances.FRAME_BYTES
        ]


def test_what_a_server_refuses_is_told(servers: ObjectServers) -> None:
    with pytest.raises(Broken, match="NoSuchBucket"):
        bare(BareJob("put", (servers.bucket("a", "nowhere"),), count=1))
