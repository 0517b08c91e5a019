from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.pipes import KEPT_PIPES, Pipe, PipePool


@pytest.fixture
def pool() -> Iterator[PipePool]:
    pool = PipePool()
    yield pool
    pool.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_bytes_go_from_socket_to_socket(pool: PipePool) -> None:
    here, source = socket.socketpair()
    destination, there = socket.socketpair()
    with here, source, destination, there:
        source.setblocking(False)
        pipe = taken(pool)
        with pytest.raises(BlockingIOError):
            pipe.fill(source.fileno())
        here.sendall(b"some bytes")
        assert pipe.fill(source.fileno(), 4) == 4
        pipe.drain(destination.fileno())
        assert (there.recv(100), pipe.held_bytes) == (b"some", 0)
        here.close()
        assert pipe.fill(source.fileno()) == 6
        pipe.drain(destination.fileno())
        assert pipe.fill(source.fileno()) == 0
        pool.give_back(pipe)


def test_a_pipe_with_bytes_in_it_is_never_used_again(pool: PipePool) -> None:
    here, source = socket.socketpair()
    with here, source:
        here.sendall(b"another's")
        before = open_descriptors()
        pipe = taken(pool)
        pipe.fill(source.fileno())
        pool.give_back(pipe)
        assert open_descriptors() == before
        assert taken(pool).held_bytes == 0


def test_empty_pipes_are_used_again_and_few_are_kept(pool: PipePool) -> None:
    before = open_descriptors()
    pipes = [taken(pool) for _ in range(2 * KEPT_PIPES)]
    for pipe in pipes:
        pool.give_back(pipe)
    assert open_descriptors() == before + 2 * KEPT_PIPES
    assert taken(pool) in pipes


def test_past_the_most_that_may_be_in_use_there_is_none_until_one_comes_back(
    pool: PipePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.pipes.MOST_PIPES", 2)
    pipe, _ = taken(pool), taken(pool)
    assert pool.take() is None
    pool.give_back(pipe)
    assert pool.take() is pipe


def taken(pool: PipePool) -> Pipe:
    pipe = pool.take()
    assert pipe is not None
    return pipe
