"""Files and folders that outlive a power cut."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_durably(file: Path, text: str, *, mode: int = 0o644, like: os.stat_result | None = None) -> None:
    """Write a file: what is there is the whole new text or the whole former one, whatever happens.

    To be called by one process at a time.

    Parameters
    ----------
    file : Path
    text : str
    mode : int
        Its permissions, less those that the umask takes away.
    like : os.stat_result, optional
        The file whose owner and permissions it gets instead.

    Raises
    ------
    OSError
    """
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if like else mode)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        if like is not None:
            os.fchown(handle, like.st_uid, like.st_gid)
            os.fchmod(handle, stat.S_IMODE(like.st_mode))
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
    sync(file.parent)


def sync_above(path: Path) -> None:
    """Make a path durable in the folder above it, that in the next, and so on: they may be new as well.

    Raises
    ------
    OSError
    """
    for folder in path.parents:
        try:
            sync(folder)
        except PermissionError:  # nothing of ours can have been made in it
            return


def sync(folder: Path) -> None:
    """Make the entries of a folder durable.

    Raises
    ------
    OSError
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
