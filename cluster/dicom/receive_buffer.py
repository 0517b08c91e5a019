"""Where received bytes land, and stay: a data set is handed over without having been copied.

The transport writes into a block, which fills from its beginning. What belongs to a data set is handed
over as views of the block, which from then on is its reader's; the headers between are left behind. Only
what is small is moved, next to what came before it, so that neither the number of fragments nor their
headers cost memory.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SMALLEST_BLOCK_BYTES: Final = 16 * 1024
_LARGEST_BLOCK_BYTES: Final = 1024 * 1024
_SMALLEST_ROOM_BYTES: Final = 4096
"""With less room than this a block is full: many short receives cost more than the room is worth."""
_SMALL_FRAGMENT_BYTES: Final = 4096


class ReceivedDataSet:
    """A data set as far as it has arrived, less what was taken of it."""

    __slots__ = ("_buffers", "_source", "buffered_bytes", "complete", "discarded", "received_bytes")

    def __init__(self, source: ReceiveBuffer) -> None:
        self._source = source
        self._buffers: deque[memoryview] = deque()
        self.buffered_bytes = 0
        self.received_bytes = 0
        self.complete = False
        self.discarded = False
        """Nobody wants it: what is still to come is dropped as it arrives."""

    def append(self, buffer: memoryview) -> None:
        """Add what has arrived; it is counted already."""
        self._buffers.append(buffer)

    def take(self, limit_bytes: int) -> list[memoryview]:
        """Return buffers of at most `limit_bytes` together, in order, and forget them."""
        if not self.complete:
            self._source.close_run()
        taken: list[memoryview] = []
        while limit_bytes > 0 and self._buffers:
            buffer = self._buffers.popleft()
            if len(buffer) > limit_bytes:
                self._buffers.appendleft(buffer[limit_bytes:])
                buffer = buffer[:limit_bytes]
            taken.append(buffer)
            limit_bytes -= len(buffer)
            self.buffered_bytes -= len(buffer)
        return taken

    def discard(self) -> None:
        """Forget what has arrived, and drop what is still to come."""
        self.discarded = True
        self._buffers.clear()
        self.buffered_bytes = 0


class ReceiveBuffer:
    """The block that is being filled.

    Up to `_kept` its bytes belong to data sets, the last of them, from `_run_begin` on, to the one that
    arrives now. From `begin` to `end` they have arrived and were not looked at. Between is nothing of worth.
    """

    __slots__ = (
        "_data_set",
        "_expected_bytes",
        "_kept",
        "_message_bytes",
        "_run_begin",
        "_size",
        "begin",
        "block",
        "end",
    )

    def __init__(self) -> None:
        self.block = memoryview(b"")
        self.begin = 0
        self.end = 0
        self._size = 0
        self._kept = 0
        self._run_begin = 0
        self._data_set: ReceivedDataSet | None = None
        self._message_bytes = 0
        self._expected_bytes = 0

    def room(self, whole_bytes: int) -> memoryview:
        """Return where the next bytes go: never empty.

        Parameters
        ----------
        whole_bytes : int
            How many bytes from `begin` on will have to lie in one piece: a new block holds them.
        """
        if self.begin > self._kept:
            self._move_unread()
        if self._size - self.end < _SMALLEST_ROOM_BYTES:
            self._next_block(whole_bytes)
        return self.block[self.end :]

    def arrived(self, size: int) -> None:
        """Count bytes that were written to `room`."""
        self.end += size
        self._message_bytes += size

    def skip(self, size: int) -> None:
        """Leave unread bytes behind."""
        self.begin += size

    def copy(self, size: int) -> bytes:
        """Read bytes that have arrived."""
        begin = self.begin
        self.begin += size
        return bytes(self.block[begin : self.begin])

    def begin_data_set(self) -> ReceivedDataSet:
        """Return the data set that `keep` adds to from now on."""
        self._data_set = ReceivedDataSet(self)
        return self._data_set

    def keep(self, size: int) -> None:
        """Read bytes that have arrived into the data set."""
        data_set = self._data_set
        assert data_set is not None
        begin, kept = self.begin, self._kept
        self.begin = begin + size
        data_set.received_bytes += size
        if data_set.discarded:
            return
        data_set.buffered_bytes += size
        if begin != kept:
            if size < _SMALL_FRAGMENT_BYTES:
                self.block[kept : kept + size] = self.block[begin : begin + size]
                begin = kept
            else:
                self.close_run()
                self._run_begin = begin
        self._kept = begin + size

    def close_run(self) -> None:
        """Hand what was kept since the last time to the data set that it belongs to."""
        begin, end = self._run_begin, self._kept
        if self._data_set is not None and begin < end and not self._data_set.discarded:
            self._data_set.append(self.block[begin:end].toreadonly())
        self._run_begin = end

    def end_message(self) -> None:
        """Note that a message is complete, its data set too. Between messages no large block is held."""
        self.close_run()
        if self._data_set is not None:
            self._data_set.complete = True
            self._data_set = None
        unread = self.end - self.begin
        self._expected_bytes = self._message_bytes - unread
        self._message_bytes = unread
        if not unread and (self._kept or self._size > _SMALLEST_BLOCK_BYTES):
            self._let_go(0)

    def _move_unread(self) -> None:
        unread = self.end - self.begin
        if unread:
            self.block[self._kept : self._kept + unread] = self.block[self.begin : self.end]
        self.begin = self._kept
        self.end = self._kept + unread

    def _next_block(self, whole_bytes: int) -> None:
        wanted = self._expected_bytes + 2 * _SMALLEST_ROOM_BYTES
        if self._message_bytes:
            wanted = max(wanted - self._message_bytes, 2 * self._size)
        size = min(max(wanted, _SMALLEST_BLOCK_BYTES), _LARGEST_BLOCK_BYTES)
        unread = bytes(self.block[self.begin : self.end])
        self.close_run()
        self._let_go(max(size, whole_bytes, len(unread)) + _SMALLEST_ROOM_BYTES)
        self.block[: len(unread)] = unread
        self.end = len(unread)

    def _let_go(self, next_size: int) -> None:
        self.block = memoryview(bytearray(next_size))
        self._size = next_size
        self.begin = self.end = self._kept = self._run_begin = 0
