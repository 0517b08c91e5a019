"""Faults: what can happen to one site's object server, each as a value that can be inflicted and healed.

A process dies, hangs, or comes back with other credentials; a drive loses, damages or has no room for what it
is to keep; the network in front refuses, cuts, or loses answers. What a fault did to stored bytes is not
undone by healing it: that is for the cluster to repair.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from chaos.proxy import Mode
from deploy.minio import MinioServer, RootCredentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chaos.proxy import Proxy

_BALLAST: Final = "ballast"
_BLOCK_BYTES: Final = 4096
_DAMAGED_SHARE: Final = 3
"""Bytes are damaged at a third of a file: within the data, beyond any magic number at its start."""


class Fault(Protocol):
    """Something that happens to one part of a cluster."""

    async def inflict(self) -> None:
        """Let it happen."""

    async def heal(self) -> None:
        """Take its cause away. What it did to stored bytes stays."""


@dataclass(frozen=True, slots=True)
class Killed:
    """The server is gone at once (SIGKILL), and started again when healed."""

    server: MinioServer

    async def inflict(self) -> None:
        """Kill it."""
        await self.server.kill()

    async def heal(self) -> None:
        """Start it again.

        Raises
        ------
        UserError
            It does not start.
        """
        await self.server.start()


@dataclass(frozen=True, slots=True)
class Hung:
    """The server holds its connections and does nothing (SIGSTOP), until it goes on (SIGCONT)."""

    server: MinioServer

    async def inflict(self) -> None:
        """Stop it."""
        self.server.signal(signal.SIGSTOP)

    async def heal(self) -> None:
        """Let it go on."""
        self.server.signal(signal.SIGCONT)


@dataclass(slots=True)
class OtherCredentials:
    """The server runs, and refuses the credentials that the cluster has."""

    server: MinioServer
    _own: RootCredentials | None = None

    async def inflict(self) -> None:
        """Start it again with others.

        Raises
        ------
        UserError
            It does not start.
        """
        self._own = self.server.credentials
        await self._restart(RootCredentials.generate())

    async def heal(self) -> None:
        """Start it again with those it had.

        Raises
        ------
        UserError
            It does not start.
        """
        if self._own is not None:
            await self._restart(self._own)

    async def _restart(self, credentials: RootCredentials) -> None:
        await self.server.stop()
        self.server.credentials = credentials
        await self.server.start()


@dataclass(frozen=True, slots=True)
class BucketGone:
    """The bucket is not there any more, until it is put back."""

    server: MinioServer
    bucket: str

    async def inflict(self) -> None:
        """Move it to where the server does not look."""
        (self.server.data / self.bucket).rename(self._away)

    async def heal(self) -> None:
        """Move it back."""
        self._away.rename(self.server.data / self.bucket)

    @property
    def _away(self) -> Path:
        # On the same drive, as a rename stays on one; and no bucket's name begins with a dot.
        return self.server.data / f".away-{self.bucket}"


@dataclass(frozen=True, slots=True)
class ObjectDeleted:
    """Somebody deleted an object through S3, behind the cluster's back: a delete marker hides it."""

    server: MinioServer
    bucket: str
    key: str

    async def inflict(self) -> None:
        """Delete it.

        Raises
        ------
        minio.error.S3Error
        """
        await asyncio.to_thread(self._delete)

    async def heal(self) -> None:
        """Do nothing: the copy is the cluster's to make again."""

    def _delete(self) -> None:
        from minio import Minio

        credentials = self.server.credentials
        client = Minio(
            endpoint=self.server.endpoint.removeprefix("http://"),
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            secure=False,
        )
        client.remove_object(bucket_name=self.bucket, object_name=self.key)


@dataclass(frozen=True, slots=True)
class FileDamaged:
    """Some bytes of a file are others than were written."""

    file: Path

    async def inflict(self) -> None:
        """Flip every bit of some bytes in the midst of it, in place.

        Raises
        ------
        OSError
        """
        with self.file.open("r+b") as file:
            place = file.seek(0, os.SEEK_END) // _DAMAGED_SHARE
            file.seek(place)
            before = file.read(16)
            file.seek(place)
            file.write(bytes(byte ^ 0xFF for byte in before))

    async def heal(self) -> None:
        """Do nothing: the copy is the cluster's to mend."""


@dataclass(frozen=True, slots=True)
class FileRemoved:
    """A file is not there any more."""

    file: Path

    async def inflict(self) -> None:
        """Remove it.

        Raises
        ------
        OSError
        """
        self.file.unlink()

    async def heal(self) -> None:
        """Do nothing: the copy is the cluster's to make again."""


@dataclass(frozen=True, slots=True)
class DiskFull:
    """A file system has no room left; it had better be a `small_disk`."""

    folder: Path
    """Any on it, which the server does not look into."""

    async def inflict(self) -> None:
        """Fill it up to its last block.

        Raises
        ------
        OSError
        """
        with (self.folder / _BALLAST).open("wb") as ballast:
            step = _free_bytes(self.folder)
            while step >= _BLOCK_BYTES:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), step)
                except OSError:  # no room for so much: all of a step is had, or none of it
                    step //= 2

    async def heal(self) -> None:
        """Give the room back."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Behind:
    """The network, or what stands before the server, does something to each request."""

    proxy: Proxy
    mode: Mode

    async def inflict(self) -> None:
        """Have the proxy do it."""
        self.proxy.mode = self.mode

    async def heal(self) -> None:
        """Have the proxy pass on everything."""
        self.proxy.mode = Mode.PASS


def metadata_file(server: MinioServer, bucket: str, key: str) -> Path:
    """Return where MinIO keeps an object's metadata, and the whole of an object of less than 128 KiB."""
    return server.data / bucket / key / "xl.meta"


def content_file(server: MinioServer, bucket: str, key: str) -> Path:
    """Return where MinIO keeps the bytes of an object of 128 KiB and more: of its newest version.

    Raises
    ------
    FileNotFoundError
        There is no such object, or it is a small one.
    """
    parts = list((server.data / bucket / key).glob("*/part.1"))
    if not parts:
        raise FileNotFoundError(f"no part.1 below {server.data / bucket / key}")
    return max(parts, key=lambda part: part.stat().st_mtime_ns)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """Mount a small file system (tmpfs) on a folder until the block is left. It takes root.

    Raises
    ------
    PermissionError
        It cannot be mounted here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(  # noqa: S603  no input of anybody's
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        raise PermissionError(f"{folder}: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        # Lazily: what still has a file open there does not keep it from going.
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)  # noqa: S603


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
