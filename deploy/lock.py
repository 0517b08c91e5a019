"""One at a time, among processes."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def held(lock_file: Path) -> Iterator[None]:
    """Hold a lock, made if needed, among processes and threads. The kernel drops it with its process.

    Raises
    ------
    OSError
    """
    handle = os.open(lock_file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
