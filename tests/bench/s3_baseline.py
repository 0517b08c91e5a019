"""What the servers themselves can do: a bare client puts, reads, uploads and copies what Atria does.

One process, one thread, `at_once` tasks; each does one thing after the other. `python -m
tests.bench.s3_baseline JOB` prints one line of JSON.

==========  ==============================================================================================
`put`       a CT image to all buckets at once, then the next: a triple, if three are named
`get`       what `put` wrote in a run of the same number, from the first bucket
`upload`    a multi-frame instance to all buckets at once, in parts of 8 MiB, two of them under way
`copy`      every `.dcm` from the first bucket to the second
==========  ==============================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Final

import uvloop
from aiohttp import ClientError

from tests.bench import instances
from tests.bench.bare_s3 import BareClient, Bucket, Refused, open_client
from tests.bench.sender import Result

PART_BYTES: Final = 8 * 1024 * 1024
_PARTS_UNDER_WAY: Final = 2
OBJECT_SUFFIX: Final = ".dcm"
_RUNS: Final = 10**14


@dataclass(frozen=True, slots=True)
class BareJob:
    """What is to be done; each of the tasks stops at `count` instances or after `seconds`."""

    action: str
    buckets: tuple[Bucket, ...]
    at_once: int = 1
    count: int = 1_000_000
    seconds: float = 3600.0
    frames: int = 0
    """Frames of an instance that is uploaded."""
    run: int = 0
    """What makes its UIDs differ from those of all other runs: below 10**14."""

    @classmethod
    def from_json(cls, text: str) -> BareJob:
        """Read what `json.dumps(asdict(job))` wrote."""
        entries = json.loads(text)
        buckets = tuple(Bucket(**bucket) for bucket in entries.pop("buckets"))
        return cls(buckets=buckets, **entries)


class _Baseline:
    def __init__(self, job: BareJob, client: BareClient) -> None:
        self._job = job
        self._client = client
        self._deadline = time.perf_counter() + job.seconds

    async def put(self, task: int) -> int:
        """Put triples."""
        image = instances.ct_image(instances.uids(self._job.run, task, 0))
        content = bytearray(image.header + instances.pixels(image.pixel_bytes))
        place = content.find(image.uids.instance)
        for number in range(self._job.count):
            if time.perf_counter() >= self._deadline:
                return number
            uids = instances.uids(self._job.run, task, number)
            content[place : place + instances.UID_LENGTH] = uids.instance
            body = bytes(content)
            digest = sha256(body).hexdigest()
            key = _key(uids)
            await asyncio.gather(*(self._client.put(to, key, body, digest) for to in self._job.buckets))
        return self._job.count

    async def get(self, task: int) -> int:
        """Read what was put."""
        for number in range(self._job.count):
            if time.perf_counter() >= self._deadline:
                return number
            key = _key(instances.uids(self._job.run, task, number))
            await self._client.get(self._job.buckets[0], key)
        return self._job.count

    async def upload(self, task: int) -> int:
        """Upload triples of large instances."""
        for number in range(self._job.count):
            if time.perf_counter() >= self._deadline:
                return number
            await self._upload(_key(instances.uids(self._job.run, task, number)))
        return self._job.count

    async def _upload(self, key: str) -> None:
        client = self._client
        ids = [await client.begin_upload(bucket, key) for bucket in self._job.buckets]
        under_way = asyncio.Semaphore(_PARTS_UNDER_WAY)

        async def put_part(number: int, part: memoryview) -> None:
            try:
                digest = (await asyncio.to_thread(sha256, part)).hexdigest()
                async with asyncio.TaskGroup() as group:
                    for bucket, upload_id in zip(self._job.buckets, ids, strict=True):
                        group.create_task(client.put_part(bucket, key, upload_id, number, part, digest))
            finally:
                under_way.release()

        async with asyncio.TaskGroup() as parts:
            async for number, part in _parts(self._job.frames * instances.FRAME_BYTES):
                await under_way.acquire()
                parts.create_task(put_part(number, part))
        for bucket, upload_id in zip(self._job.buckets, ids, strict=True):
            await client.complete_upload(bucket, key, upload_id)


async def _copy(job: BareJob, client: BareClient) -> Result:
    source, target = job.buckets
    keys = iter([listed.key for listed in await client.list(source, OBJECT_SUFFIX)])
    copied = 0

    async def work() -> None:
        nonlocal copied
        for key in keys:
            content = await client.get(source, key)
            await client.put(target, key, content, sha256(content).hexdigest())
            copied += 1

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(job.at_once):
            group.create_task(work())
    return Result(copied, time.perf_counter() - began, None)


async def _run(job: BareJob) -> Result:
    connections = job.at_once * (_PARTS_UNDER_WAY if job.action == "upload" else 1)
    async with open_client(connections) as client:
        if job.action == "copy":
            return await _copy(job, client)
        baseline = _Baseline(job, client)
        action = {"put": baseline.put, "get": baseline.get, "upload": baseline.upload}[job.action]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(action(number)) for number in range(job.at_once)]
        return Result(sum(task.result() for task in tasks), time.perf_counter() - began, None)


async def _parts(size_bytes: int) -> AsyncGenerator[tuple[int, memoryview]]:
    """Give the parts of a large instance: all of the same pixels, but for its number in each."""
    pixels = instances.pixels(PART_BYTES)
    for number in range(1, -(-size_bytes // PART_BYTES) + 1):
        part = bytearray(pixels)
        part[:8] = number.to_bytes(8, "big")
        yield number, memoryview(part)[: size_bytes - (number - 1) * PART_BYTES]


def _key(of: instances.Uids) -> str:
    return f"{of.study.decode()}/{of.series.decode()}/{of.instance.decode()}{OBJECT_SUFFIX}"


def main() -> None:
    """Do what the command line says; print the result as one line of JSON."""
    parser = argparse.ArgumentParser(description="Put, get, upload or copy objects, and print how fast.")
    parser.add_argument("job", help="a JSON object: " + ", ".join(BareJob.__dataclass_fields__))
    job = BareJob.from_json(parser.parse_args().job)
    try:
        result = uvloop.run(_run(job))
    except* (Refused, ClientError, TimeoutError) as group:
        fault = group.exceptions[0]
        result = Result(0, 0.0, f"{type(fault).__name__}: {fault}")
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
