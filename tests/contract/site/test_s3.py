"""What a site in a bucket of a real MinIO server has to tell apart, and to say."""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import structlog
from prometheus_client import REGISTRY

from cluster.nouns import SiteIdentity
from deploy.minio import MinioServer
from storage_node.site.identity import IDENTITY_FILE, identity_content
from storage_node.site.protocol import ObjectFault, ObjectMissing, SiteFull, SiteUnavailable
from storage_node.site.s3 import S3Objects
from storage_node.site.s3_location import Credentials, S3Location
from tests.contract.site.minio import credentials, new_identity, new_location, new_site
from tests.contract.site.tmpfs import mounted_tmpfs

IMAGE = bytes(range(256)) * 2104
"""As large as a CT image: MinIO keeps what is small in the file that describes it."""


@pytest.fixture
def identity() -> SiteIdentity:
    return new_identity()


@pytest.fixture
def location(minio: MinioServer) -> S3Location:
    return new_location(minio)


@pytest.fixture
async def site(minio: MinioServer, identity: SiteIdentity, location: S3Location) -> AsyncIterator[S3Objects]:
    objects = new_site(minio, identity, location)
    yield objects
    await objects.close()


@pytest.fixture
def bucket(minio: MinioServer, location: S3Location) -> Path:
    """The folder that the server keeps the bucket in."""
    return minio.data / location.bucket


@asynccontextmanager
async def closing(site: S3Objects) -> AsyncIterator[S3Objects]:
    try:
        yield site
    finally:
        await site.close()


async def put(site: S3Objects, key: str, content: bytes = IMAGE) -> None:
    await site.put(key, [content], digest=sha256(content).hexdigest(), metadata={"source": "s"})


def newest(bucket: Path, key: str, name: str) -> Path:
    return max((bucket / key).glob(name), key=lambda file: file.stat().st_mtime_ns)


@asynccontextmanager
async def running(server: MinioServer) -> AsyncIterator[MinioServer]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def put_until_refused(site: S3Objects) -> None:
    for number in range(1000):
        await put(site, f"s/{number}")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[:200] = bytes(byte ^ 0xFF for byte in content[:200])
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
async def test_rotten_bytes_are_a_fault_of_the_object_and_a_put_heals_it(
    site: S3Objects, bucket: Path, damage: Callable[[Path], None]
) -> None:
    await put(site, "s/x")
    damage(newest(bucket, "s/x", "*/part.1"))
    assert (await site.head("s/x")).size_bytes == len(IMAGE)
    for read in (site.get("s/x"), site.get("s/x", 0, 100), site.get("s/x", 100)):
        with pytest.raises(ObjectFault):
            await read
    await put(site, "s/x")
    assert await site.get("s/x") == IMAGE


async def test_an_object_whose_description_is_rotten_is_at_fault_and_another_key_is_not(
    site: S3Objects, bucket: Path
) -> None:
    await put(site, "s/x")
    flip(bucket / "s/x/xl.meta")
    for call in (site.get("s/x"), site.head("s/x"), put(site, "s/x")):
        with pytest.raises(ObjectFault):
            await call
    await put(site, "s/x~other")
    assert await site.get("s/x~other") == IMAGE


async def test_an_object_that_was_deleted_behind_our_back_is_missing(
    minio: MinioServer, site: S3Objects, bucket: Path
) -> None:
    await put(site, "s/x")
    version = (await site.head("s/x")).version_id
    await site.ask("DELETE", "s/x")  # leaves a delete marker
    for call in (site.get("s/x"), site.head("s/x")):
        with pytest.raises(ObjectMissing):
            await call
    await site.delete("s/x", version)
    await put(site, "s/y")
    shutil.rmtree(bucket / "s/y")
    with pytest.raises(ObjectMissing):
        await site.get("s/y")


async def test_bytes_that_changed_on_the_way_are_refused(site: S3Objects) -> None:
    with pytest.raises(ObjectFault, match="SHA256"):
        await site.put("s/x", [IMAGE], digest=sha256(b"other").hexdigest(), metadata={})
    with pytest.raises(ObjectMissing):
        await site.head("s/x")
    upload = await site.upload("s/x", metadata={})
    with pytest.raises(ObjectFault, match="SHA256"):
        await upload.write([IMAGE * 10], digest=sha256(b"other").hexdigest())
    await upload.abort()


async def test_an_aborted_upload_leaves_no_part_on_disk(
    minio: MinioServer, site: S3Objects, bucket: Path
) -> None:
    before = set((minio.data / ".minio.sys/multipart").rglob("part.*"))
    upload = await site.upload("s/x", metadata={})
    await upload.write([IMAGE * 10])
    assert set((minio.data / ".minio.sys/multipart").rglob("part.*")) - before
    await upload.abort()
    assert set((minio.data / ".minio.sys/multipart").rglob("part.*")) == before


async def test_a_bucket_that_is_gone_is_a_site_that_is_gone_and_not_a_missing_object(
    site: S3Objects, bucket: Path, location: S3Location
) -> None:
    await put(site, "s/x")
    shutil.rmtree(bucket)
    for call in (site.get("s/x"), site.head("s/x"), put(site, "s/x"), site.identity(), listed(site)):
        with pytest.raises(SiteUnavailable, match=f"no bucket {location.bucket}.*see objects"):
            await call


async def test_nothing_is_done_in_a_bucket_that_is_another_sites(
    minio: MinioServer, site: S3Objects, location: S3Location, identity: SiteIdentity
) -> None:
    other = S3Objects(
        "a", location, lambda: credentials(minio), replace(identity, generation=identity.generation + 1)
    )
    for call in (put(other, "s/x"), other.identity(), other.get("s/x"), listed(other)):
        with pytest.raises(SiteUnavailable, match="another was expected"):
            await call
    await other.close()
    assert await listed(site) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", None])
async def test_a_damaged_or_missing_identity_is_a_site_that_is_down_until_it_is_back(
    site: S3Objects, identity: SiteIdentity, content: bytes | None
) -> None:
    if content is None:
        await site.ask("DELETE", IDENTITY_FILE)
    else:
        await put(site, IDENTITY_FILE, content)
    with pytest.raises(SiteUnavailable, match=IDENTITY_FILE):
        await site.identity()
    with pytest.raises(SiteUnavailable, match=IDENTITY_FILE):
        await put(site, "s/x")
    site._recognised = True  # so that it can be mended
    await put(site, IDENTITY_FILE, identity_content(identity))
    assert await site.identity() == identity
    await put(site, "s/x")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (lambda right: replace(right, secret_key="not-the-secret-0123"), "SignatureDoesNotMatch"),
        (lambda right: Credentials("nobody", "not-the-secret-0123"), "InvalidAccessKeyId"),
        (lambda right: replace(right, session_token="not-a-token-0123"), "InvalidToken"),
        (lambda right: Credentials("", ""), "empty"),
        (lambda right: Credentials("new\nline", "not-the-secret-0123"), "damaged"),
    ],
)
async def test_refused_credentials_are_told_as_such_and_shown_nowhere(
    minio: MinioServer,
    site: S3Objects,
    location: S3Location,
    identity: SiteIdentity,
    given: Callable[[Credentials], Credentials],
    code: str,
) -> None:
    wrong = given(credentials(minio))
    refused = S3Objects("a", location, lambda: wrong, identity)
    for call in (refused.identity(), refused.get("s/x"), put(refused, "s/x")):
        with pytest.raises(SiteUnavailable, match=f"{code}.*credentials") as told:
            await call
        assert told.value.site == "a"
        for secret in filter(None, (wrong.access_key, wrong.secret_key, wrong.session_token)):
            assert secret not in f"{told.value!r} {wrong!r}"
    refused._recognised = True  # as when they are changed later: the request has a body then
    with pytest.raises(SiteUnavailable, match=code):
        await put(refused, "s/x", IMAGE * 30)
    with pytest.raises(SiteUnavailable, match=code):
        await refused.head("s/x")
    await refused.close()


async def test_credentials_may_change_while_it_runs(
    minio: MinioServer, site: S3Objects, location: S3Location, identity: SiteIdentity
) -> None:
    now = [Credentials("nobody", "not-the-secret-0123")]
    changing = S3Objects("a", location, lambda: now[0], identity)
    with pytest.raises(SiteUnavailable):
        await changing.identity()
    now[0] = credentials(minio)
    assert await changing.identity() == identity
    await changing.close()


async def test_a_clock_that_is_off_is_told_before_it_matters_and_when_it_does(
    minio: MinioServer, site: S3Objects, location: S3Location, identity: SiteIdentity
) -> None:
    behind = timedelta(seconds=30)
    skewed = S3Objects(
        "a", location, lambda: credentials(minio), identity, now=lambda: datetime.now(UTC) - behind
    )
    with structlog.testing.capture_logs() as logs:
        await skewed.identity()
        await skewed.identity()
    assert [(line["event"], line["site"]) for line in logs] == [("site.clock_off", "a")]
    offset = REGISTRY.get_sample_value("atria_site_clock_offset_seconds", {"site": "a"})
    assert offset == pytest.approx(30, abs=2)
    behind = timedelta(hours=1)
    with pytest.raises(SiteUnavailable, match=r"clock .* by 3(599|600|601) s, it is ahead"):
        await skewed.identity()
    await skewed.close()


async def test_another_region_is_told_with_the_right_one(tmp_path: Path, identity: SiteIdentity) -> None:
    class InAnotherRegion(MinioServer):
        def environment(self) -> dict[str, str]:
            return {**super().environment(), "MINIO_SITE_REGION": "eu-west-1"}

    async with running(InAnotherRegion(tmp_path)) as server:
        objects = S3Objects("a", new_location(server), lambda: credentials(server), identity)
        with pytest.raises(SiteUnavailable, match=r"not in region us-east-1, it is in eu-west-1.*see region"):
            await objects.identity()
        await objects.close()


async def test_a_server_that_is_killed_and_started_again_is_used_again(
    tmp_path: Path, identity: SiteIdentity
) -> None:
    async with running(MinioServer(tmp_path)) as server, closing(new_site(server, identity)) as site:
        await put(site, "s/x")
        await server.kill()
        for call in (site.get("s/x"), put(site, "s/x"), site.identity(), listed(site), site.free_bytes()):
            with pytest.raises(SiteUnavailable, match="see endpoint"):
                await call
        await server.start()
        assert await site.get("s/x") == IMAGE


async def test_a_server_that_hangs_holds_nothing_of_a_call_that_was_given_up(
    tmp_path: Path, identity: SiteIdentity
) -> None:
    async with running(MinioServer(tmp_path)) as server, closing(new_site(server, identity)) as site:
        await put(site, "s/x")
        before = open_sockets()
        server.signal(signal.SIGSTOP)
        content = bytearray(16 * 1024 * 1024)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await site.put("s/y", [content], digest=sha256(content).hexdigest(), metadata={})
        for _ in range(5):  # until the task that was writing has seen that it is over
            await asyncio.sleep(0)
        gc.collect()  # what is left of the exception
        content.clear()  # raises BufferError while anybody holds it
        assert open_sockets() < before  # one that is merely closed would wait for the server
        server.signal(signal.SIGCONT)
        assert await site.get("s/x") == IMAGE
        with pytest.raises(ObjectMissing):
            await site.get("s/y")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_tmpfs(tmp_path / "data", size_mib=48):
        yield tmp_path


async def test_a_full_disk_is_a_full_site_that_can_still_be_read(small_disk: Path) -> None:
    async with running(MinioServer(small_disk)) as server, closing(new_site(server)) as site:
        room = await site.free_bytes()
        assert room is not None
        assert 30 * 1024 * 1024 < room < 50 * 1024 * 1024
        await put(site, "s/x")
        upload = await site.upload("s/big", metadata={})
        await upload.write([IMAGE * 16])
        with pytest.raises(SiteFull):
            await put_until_refused(site)
        with pytest.raises(SiteFull):
            await upload.write([IMAGE * 16])
        await upload.abort()
        assert await site.get("s/x") == IMAGE


def open_sockets() -> int:
    count = 0
    for file in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # that of this listing
            count += str(file.readlink()).startswith("socket:")
    return count


async def listed(site: S3Objects) -> list[str]:
    return [found.key async for found in site.list()]
