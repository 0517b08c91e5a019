"""MinIO servers on this host: what `atria up --sites minio`, the tests and the bench run.

All servers of one data folder share the root credentials that were made with the first of them.
"""

from __future__ import annotations

import configparser
import os
import secrets
import shutil
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cluster.durable import replace_durably
from deploy import pages
from deploy.errors import UserError
from deploy.server import Server

if TYPE_CHECKING:
    from cluster.coordination.registry import Address

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_HEALTH: Final = "/minio/health/cluster"
"""200 only when its drive can be written: `live` says so of a server that cannot do anything yet."""


@dataclass(frozen=True, slots=True)
class RootCredentials:
    """Who may do everything at a server. Never shown."""

    access_key: str
    secret_key: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Make new ones, at random."""
        return cls(f"atria-{secrets.token_hex(6)}", secrets.token_hex(20))

    @classmethod
    def kept(cls, file: Path) -> Self:
        """Return those that a file keeps, which is made, readable by its owner alone, if it is not there.

        The file is written as other S3 clients expect it (AWS shared credentials, profile `default`).

        Raises
        ------
        OSError
            It can be neither read nor written.
        KeyError, configparser.Error
            It holds something else.
        """
        if not file.exists():
            new = cls.generate()
            text = f"aws_access_key_id = {new.access_key}\naws_secret_access_key = {new.secret_key}\n"
            replace_durably(file, f"[default]\n{text}", mode=0o600)
            return new
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(file.read_text("utf-8"))
        entries = parser["default"]
        return cls(entries["aws_access_key_id"], entries["aws_secret_access_key"])


def find_binary(named: Path | None = None) -> Path:
    """Return where MinIO's program is: as the settings name it, else in `servers/`, else in PATH.

    Raises
    ------
    UserError
        It is nowhere.
    """
    if named is not None:
        binary = named.expanduser()
        if not os.access(binary, os.X_OK):
            raise UserError(f"minio_binary: {binary} is no program that can be run")
        return binary
    built = _CHECKOUT / "servers" / "minio"
    if os.access(built, os.X_OK):
        return built
    if found := shutil.which("minio"):
        return Path(found)
    raise UserError(
        f"MinIO's program is neither at {built} nor in PATH: build it with `make servers`,"
        " or name it in the settings (minio_binary)"
    )


async def is_ready(address: Address) -> bool:
    """Whether the server there would take a request now."""
    try:
        page = await pages.fetch(address, _HEALTH, timeout_s=1.0)
    except pages.NoPage:
        return False
    return page.status == HTTPStatus.OK


class MinioServer(Server):
    """One MinIO server, with one drive.

    Parameters
    ----------
    folder : Path
        Its own: `data/` in it is the drive, with a folder for each bucket.
    port : int
        Of the loopback interface; 0 takes a free one, which it keeps when it is started again.
    credentials : RootCredentials
    binary : Path or None
        The program; None looks for it when it is started (`find_binary`).
    """

    PRODUCT = "MinIO"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        credentials: RootCredentials | None = None,
        *,
        binary: Path | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.credentials = credentials or RootCredentials.generate()
        self._binary = binary

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def command(self) -> list[str]:
        """Return the command line; credentials are not in it.

        Raises
        ------
        UserError
            There is no program.
        """
        return [
            *(str(self._binary or find_binary()), "server", "--quiet"),
            *("--address", str(self.address)),
            *("--certs-dir", str(self.folder / "certs")),
            str(self.data),
        ]

    def environment(self) -> dict[str, str]:
        """Return the whole environment it is to run with: nothing of ours but what it must know."""
        return {
            "HOME": str(self.folder),
            "PATH": os.defpath,
            "MINIO_ROOT_USER": self.credentials.access_key,
            "MINIO_ROOT_PASSWORD": self.credentials.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }

    async def is_ready(self) -> bool:
        """Whether it would take a request now."""
        return await is_ready(self.address)
