"""Where a bucket's credentials come from: never from the settings themselves, nor from a URL.

The first of these that is there: the environment's `ATRIA_S3_ACCESS_KEY_<NAME>` and
`ATRIA_S3_SECRET_KEY_<NAME>` (the site's name in capitals, `-` as `_`); the site's `credentials_file`, an AWS
shared credentials file; `ATRIA_S3_ACCESS_KEY` and `ATRIA_S3_SECRET_KEY`. A `SESSION_TOKEN` may go with them.
"""

from __future__ import annotations

import configparser
import os
import time
from typing import TYPE_CHECKING, Final

from storage_node.site.protocol import SiteUnavailable
from storage_node.site.s3_location import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cluster.settings import Site

REREAD_INTERVAL_S: Final = 2.0
"""How often a file is looked at: who changes credentials need not start anything again."""

_PREFIX: Final = "ATRIA_S3_"


class SiteCredentials:
    """Finds the credentials of one site; a `storage_node.site.s3_location.CredentialsProvider`.

    Parameters
    ----------
    site : Site
    environment : mapping of str to str
    clock : callable
        Returns seconds that only grow.
    """

    def __init__(
        self,
        site: Site,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._clock = clock
        own = f"_{site.name.upper().replace('-', '_')}"
        self._given = _from_environment(environment, own)
        if self._given is None and site.credentials_file is None:
            self._given = _from_environment(environment, "")
        self._file = None if site.credentials_file is None else site.credentials_file.expanduser()
        self._names = f"{_PREFIX}ACCESS_KEY{own} and {_PREFIX}SECRET_KEY{own}"
        self._read: tuple[tuple[int, int], Credentials] | None = None
        self._due_s = 0.0

    def __call__(self) -> Credentials:
        """Return the credentials that hold now.

        Raises
        ------
        SiteUnavailable
            There are none. The reason names the setting.
        """
        if self._given is not None:
            return self._given
        if self._file is None:
            raise self._unavailable(
                f"no credentials: name a file in the settings (credentials_file), or set {self._names}"
            )
        if self._read is None or self._clock() >= self._due_s:
            self._read = self._from_file(self._file)
            self._due_s = self._clock() + REREAD_INTERVAL_S
        return self._read[1]

    def _from_file(self, file: Path) -> tuple[tuple[int, int], Credentials]:
        try:
            status = file.stat()
            stamp = status.st_ino, status.st_mtime_ns
            if self._read is not None and self._read[0] == stamp:
                return self._read
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(file.read_text("utf-8"))
            section = parser[self._site.credentials_profile]
            return stamp, Credentials(
                section["aws_access_key_id"],
                section["aws_secret_access_key"],
                section.get("aws_session_token"),
            )
        except OSError as error:
            raise self._unavailable(f"credentials_file: {file}: {error.strerror}") from error
        except KeyError as error:
            raise self._unavailable(
                f"credentials_file: {file}: expected {error.args[0]} (credentials_profile is"
                f" {self._site.credentials_profile!r}), found nothing"
            ) from None
        except (configparser.Error, UnicodeDecodeError):  # what they say quotes the file
            raise self._unavailable(f"credentials_file: {file} is no AWS shared credentials file") from None

    def _unavailable(self, reason: str) -> SiteUnavailable:
        return SiteUnavailable(self._site.name, reason)


def _from_environment(environment: Mapping[str, str], suffix: str) -> Credentials | None:
    access, secret, token = (
        environment.get(f"{_PREFIX}{what}{suffix}") for what in ("ACCESS_KEY", "SECRET_KEY", "SESSION_TOKEN")
    )
    return Credentials(access, secret, token) if access and secret else None
