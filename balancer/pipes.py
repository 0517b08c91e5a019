"""Pipes, through which `splice(2)` moves bytes from socket to socket within the kernel."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final

from prometheus_client import Counter

PIPE_BYTES: Final = 1024 * 1024
"""Size asked for. Past a user's share of pipe memory the kernel gives less: the pipe works all the same."""
KEPT_PIPES: Final = 16
"""Idle pipes that are kept. One is in use at a time, and one more for each receiver that does not keep up."""
MOST_PIPES: Final = 256
"""Pipes in use at once. Receivers that do not keep up hold one each: past that, bytes are copied."""
SHORTAGES = Counter("atria_balancer_pipe_shortages_total", "Times that bytes were copied for want of a pipe")
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A pipe, and how many bytes are in it."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a smaller pipe is no fault
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.held_bytes = 0

    def fill(self, source: int, limit_bytes: int | None = None) -> int:
        """Move what a socket has into the empty pipe.

        Returns
        -------
        int
            Bytes moved; 0 at the end of the stream.

        Raises
        ------
        BlockingIOError
            The socket has nothing.
        OSError
            The socket is broken.
        """
        assert not self.held_bytes  # otherwise "nothing to read" and "no room" could not be told apart
        self.held_bytes = os.splice(
            source, self._in, min(limit_bytes or PIPE_BYTES, PIPE_BYTES), flags=_FLAGS
        )
        return self.held_bytes

    def drain(self, destination: int) -> None:
        """Move what the pipe holds into a socket, as much as it takes.

        Raises
        ------
        OSError
            The socket is broken.
        """
        try:
            while self.held_bytes:
                self.held_bytes -= os.splice(self._out, destination, self.held_bytes, flags=_FLAGS)
        except BlockingIOError:
            return

    def take_out(self) -> bytes:
        """Return what the pipe holds, and leave it empty: for a few bytes."""
        taken = os.read(self._out, self.held_bytes)
        self.held_bytes -= len(taken)
        return taken

    def close(self) -> None:
        """Give both ends back to the kernel, with what is in between."""
        os.close(self._in)
        os.close(self._out)


class PipePool:
    """Pipes for whoever has bytes in flight."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._in_use = 0

    def take(self) -> Pipe | None:
        """Return an empty pipe; None where too many are in use, or descriptors or memory have run out."""
        if self._in_use >= MOST_PIPES:
            SHORTAGES.inc()
            return None
        try:
            pipe = self._idle.pop() if self._idle else Pipe()
        except OSError:
            SHORTAGES.inc()
            return None
        self._in_use += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back; one that still holds bytes is not used again."""
        self._in_use -= 1
        if pipe.held_bytes or len(self._idle) >= KEPT_PIPES:
            pipe.close()
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        """Close the idle pipes."""
        while self._idle:
            self._idle.pop().close()
