"""What is written past the page cache is what is read, whatever its size and whatever the disk takes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_node.site import direct_file
from storage_node.site.direct_file import ALIGNMENT_BYTES, BUFFER_BYTES, DirectFile

EDGES = [0, 1, ALIGNMENT_BYTES - 1, ALIGNMENT_BYTES, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1]
SIZES = st.one_of(st.sampled_from(EDGES), st.integers(0, 3 * BUFFER_BYTES))


@contextmanager
def folder_handle(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)


def written(folder: Path, calls: Sequence[Sequence[bytes]]) -> bytes:
    with folder_handle(folder) as handle:
        file = DirectFile("file", handle)
        try:
            for parts in calls:
                file.write(parts)
            file.sync()
        finally:
            file.close()
    return (folder / "file").read_bytes()


def content(size: int, seed: int = 0) -> bytes:
    return (bytes(range(251)) * (size // 251 + 2))[seed : seed + size]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(SIZES, max_size=3), max_size=3))
def test_the_parts_of_all_calls_are_in_the_file_one_after_the_other(sizes: list[list[int]]) -> None:
    calls = [[content(size, seed) for seed, size in enumerate(of_call)] for of_call in sizes]
    # The usual folder for temporary files may be a tmpfs, and a disk is meant here.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        assert written(Path(folder), calls) == b"".join(b"".join(parts) for parts in calls)


@pytest.mark.parametrize("made", [False, True], ids=["refused outright", "refused when it was made"])
def test_a_file_system_without_direct_io_gets_it_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, made: bool
) -> None:
    real_open = os.open

    def no_direct_io(path: str, flags: int, *rest: int, **folder: int) -> int:
        if flags & os.O_DIRECT:
            if made:
                os.close(real_open(path, flags & ~os.O_DIRECT, *rest, **folder))
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_open(path, flags, *rest, **folder)

    data = content(2 * BUFFER_BYTES + 77)
    with folder_handle(tmp_path) as handle:
        monkeypatch.setattr(os, "open", no_direct_io)
        file = DirectFile("file", handle)
        monkeypatch.undo()
        file.write([data])
        file.sync()
        file.close()
    assert (tmp_path / "file").read_bytes() == data


def test_a_disk_that_refuses_the_first_or_a_later_block_gets_the_rest_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    for refused in (1, 2, 3):
        calls = 0

        def write(fd: int, data: memoryview) -> int:
            nonlocal calls
            calls += 1
            if calls == refused:  # noqa: B023  called within this round
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real_write(fd, data)

        folder = tmp_path / str(refused)
        folder.mkdir()
        data = content(3 * BUFFER_BYTES + 5)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            assert written(folder, [[data]]) == data


def test_a_disk_that_takes_less_than_it_was_given_is_given_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[: 3 * ALIGNMENT_BYTES]))
    data = content(BUFFER_BYTES + 1234)
    assert written(tmp_path, [[data]]) == data


def test_a_disk_that_refuses_even_the_page_cache_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: int, __: memoryview) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="Invalid"):
        written(tmp_path, [[content(BUFFER_BYTES)]])


def test_buffers_are_used_again_and_not_by_two_files_at_once(tmp_path: Path) -> None:
    with folder_handle(tmp_path) as handle:
        files = [DirectFile(str(number), handle) for number in range(3)]
        for number, file in enumerate(files):
            file.write([bytes([number]) * 100])
        for file in files:
            file.sync()
            file.close()
            file.close()
    assert [(tmp_path / str(number)).read_bytes()[:1] for number in range(3)] == [b"\0", b"\1", b"\2"]
    assert len({id(buffer) for buffer in direct_file._spares}) == len(direct_file._spares)
