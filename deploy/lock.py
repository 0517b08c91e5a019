"""One at a time, among processes."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PATIENCE_S: Final = 15.0
"""How long a lock is waited for: who holds it for longer was stopped, as by Ctrl-Z."""
_POLL_S: Final = 0.02


@contextmanager
def held(lock_file: Path) -> Iterator[None]:
    """Hold a lock, made if needed, among processes and threads. The kernel drops it with its process. Blocks.

    Raises
    ------
    TimeoutError
        Somebody else has held it for `PATIENCE_S`.
    OSError
    """
    handle = os.open(lock_file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(handle, lock_file)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, lock_file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                said = f"held by another process for {PATIENCE_S:g} s (`fuser {lock_file}` names it)"
                raise TimeoutError(errno.ETIMEDOUT, said, str(lock_file)) from None
            time.sleep(_POLL_S)
        else:
            return
