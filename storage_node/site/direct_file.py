"""Writing a new file past the page cache (O_DIRECT, open(2)).

What is stored is read again much later, if at all. Through the page cache each of its pages is allocated,
copied to and written out, and something that might be read is evicted for it: at three sites on one host that
was half of what storing an image cost (`docs/decisions/0010-direct-io.md`). Past it, the disk reads straight
from one aligned buffer. Durable is neither without an fsync.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.nouns import Buffer

BUFFER_BYTES: Final = 1024 * 1024
"""How much is handed to the disk at once."""
ALIGNMENT_BYTES: Final = 4096
"""What memory, file offset and length must be multiples of: the largest block of any disk in use."""


_spares: Final[list[mmap.mmap]] = []
"""Aligned buffers that were used, the last one first: their pages are there already."""
_SPARES_LIMIT: Final = 32


class DirectFile:
    """A file that is written from its beginning to its end. Not for several threads at once.

    What is not aligned (its end), and everything on a file system without O_DIRECT, is written through the
    page cache.

    Parameters
    ----------
    name : str
        The file must not exist yet.
    folder : int
        A handle of the folder that it is made in.

    Raises
    ------
    OSError
    """

    def __init__(self, name: str, folder: int) -> None:
        self.name = name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(name, flags | os.O_DIRECT, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Whether the file was made before the flag was refused differs between file systems.
            self._fd = os.open(name, flags & ~os.O_EXCL, 0o666, dir_fd=folder)
        self._buffer = _take_buffer()
        self._filled = 0

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append the parts.

        Raises
        ------
        OSError
        """
        for part in parts:
            rest = memoryview(part).cast("B")
            while rest.nbytes:
                taken = min(rest.nbytes, BUFFER_BYTES - self._filled)
                self._buffer[self._filled : self._filled + taken] = rest[:taken]
                self._filled += taken
                rest = rest[taken:]
                if self._filled == BUFFER_BYTES:
                    self._hand_over(0, BUFFER_BYTES)
                    self._filled = 0

    def flush(self) -> None:
        """Write what is left; nothing can be appended after it.

        Raises
        ------
        OSError
        """
        aligned = self._filled - self._filled % ALIGNMENT_BYTES
        self._hand_over(0, aligned)
        if aligned < self._filled:
            self._use_page_cache()
            self._hand_over(aligned, self._filled)
        self._filled = 0

    def sync(self) -> None:
        """Write what is left, and make the content durable.

        Raises
        ------
        OSError
        """
        self.flush()
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file; harmless when that was done."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            _give_back(self._buffer)

    def _hand_over(self, start: int, end: int) -> None:
        with memoryview(self._buffer) as view:
            while start < end:
                try:
                    start += os.write(self._fd, view[start:end])
                except OSError as error:
                    if error.errno != errno.EINVAL or not self._use_page_cache():
                        raise

    def _use_page_cache(self) -> bool:
        """Give up O_DIRECT: for what is not aligned, or a disk that refuses it. Return whether it was on."""
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        return bool(flags & os.O_DIRECT)


def _take_buffer() -> mmap.mmap:
    try:
        return _spares.pop()
    except IndexError:
        return mmap.mmap(-1, BUFFER_BYTES)


def _give_back(buffer: mmap.mmap) -> None:
    if len(_spares) < _SPARES_LIMIT:
        _spares.append(buffer)
