"""MinIO servers of a one-host cluster: a bucket for each site's objects."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING, Final

from deploy import minio
from deploy.errors import UserError
from deploy.own_servers import OwnServers
from deploy.server import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cluster.settings import Settings

BUCKET: Final = "atria"

_CREDENTIALS: Final = "minio-credentials"


class MinioSites(OwnServers):
    """What `atria up --sites minio` runs."""

    NAME = "minio"
    OPTION = "--sites"
    KEPT_IN = "its sites in MinIO servers"
    OR_ELSE = "its sites in folders"

    def find_program(self, settings: Settings) -> None:
        """Find out whether there is a program to run them.

        Raises
        ------
        UserError
            There is none.
        """
        minio.find_binary(settings.minio_binary)

    def tables(self, data_folder: Path, ports: Mapping[str, int]) -> dict[str, dict[str, object]]:
        """Return what the settings would say of each site of such servers, by the site's name."""
        return {
            name: {
                "objects": f"s3://{BUCKET}",
                "endpoint": f"http://{HOST}:{port}",
                "credentials_file": data_folder / _CREDENTIALS,
            }
            for name, port in ports.items()
        }

    def servers(self, settings: Settings, ports: Mapping[str, int]) -> dict[str, Server]:
        """Return the servers, by the sites' names.

        Raises
        ------
        UserError
            Their credentials cannot be read.
        """
        folder, file = settings.data_folder, settings.data_folder / _CREDENTIALS
        try:
            credentials = minio.RootCredentials.kept(file)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        except (ValueError, KeyError, configparser.Error):  # what they say may quote the file
            raise UserError(f"{file} is no AWS shared credentials file: put a good copy back") from None
        return {
            name: minio.MinioServer(
                folder / f"site-{name}" / "minio", port, credentials, binary=settings.minio_binary
            )
            for name, port in ports.items()
        }
