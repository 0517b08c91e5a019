"""Writing and removing the files of one object, durably and at once.

An object's file is at its key; its user metadata is in a file beside it, of the same name and `.meta`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from storage_node.site.file_read import FOLDER, METADATA_SUFFIX, version_id_of

if TYPE_CHECKING:
    from cluster.nouns import Buffer
    from storage_node.site.direct_file import DirectFile
    from storage_node.site.root import Root


def put(root: Root, key: str, parts: Sequence[Buffer], metadata: Mapping[str, str]) -> None:
    """Write an object, in place of what stood at its key.

    Raises
    ------
    OSError, SiteUnavailable
    """
    file = root.new_file()
    try:
        file.write(parts)
        publish(root, key, file, metadata)
    except BaseException:
        root.discard(file.name)
        raise
    finally:
        file.close()


def publish(root: Root, key: str, file: DirectFile, metadata: Mapping[str, str]) -> None:
    """Make a written file durable, then visible at its key with its metadata, then that durable.

    The folder is locked, against other processes too, while names in it change: so who deletes finds object
    and metadata of one and the same put. Closing it is what unlocks it.

    Raises
    ------
    OSError
    """
    path, _, name = key.rpartition("/")
    folder = root.open_folder(path)
    try:
        beside = _write_metadata(root, file, metadata)
        try:
            root.sync_above(path)
            fcntl.flock(folder, fcntl.LOCK_EX)
            _rename(root, beside, folder, name + METADATA_SUFFIX)
            _rename(root, file.name, folder, name)
            os.fsync(folder)
        except BaseException:
            root.discard(beside)
            raise
    finally:
        os.close(folder)


def _write_metadata(root: Root, file: DirectFile, metadata: Mapping[str, str]) -> str:
    """Write the file that comes beside an object's, make both durable, and return its name.

    All that is new is written before anything is synced: one commit of the file system's journal is then
    enough for both files and the folder that they will be in.
    """
    beside, handle = root.new_small_file()
    try:
        os.write(handle, json.dumps(dict(metadata)).encode("ascii"))
        file.flush()
        os.fsync(handle)
        file.sync()
    except BaseException:
        root.discard(beside)
        raise
    finally:
        os.close(handle)
    return beside


def _rename(root: Root, temporary: str, folder: int, name: str) -> None:
    os.rename(temporary, name, src_dir_fd=root.incoming, dst_dir_fd=folder)


def delete(root: Root, key: str, version_id: str) -> None:
    """Remove the very file that was looked at, if it is still there.

    Raises
    ------
    OSError
    """
    path, _, name = key.rpartition("/")
    try:
        folder = os.open(path or ".", FOLDER, dir_fd=root.fd)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if version_id_of(status) == version_id:
            os.unlink(name, dir_fd=folder)
            with suppress(FileNotFoundError):
                os.unlink(name + METADATA_SUFFIX, dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        return
    finally:
        os.close(folder)
