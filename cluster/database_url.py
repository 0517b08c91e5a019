"""The URL of a PostgreSQL database, as settings name it: without a password, which would be shown with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

FORM: Final = "postgresql://USER@HOST:PORT/DATABASE"

_SCHEME: Final = "postgresql"
_DEFAULT_PORT: Final = 5432
_PARAMETERS: Final = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"})
"""Of libpq: how the connection is protected. Others would change what we rely on, or hold a password."""
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where a database is."""

    user: str
    host: str
    port: int
    database: str

    @classmethod
    def parse(cls, text: str) -> DatabaseUrl:
        """Read a URL.

        Raises
        ------
        ValueError
            It is none, or has a password or a parameter that is not expected. The message does not show it.
        """
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:  # what it says may quote a password
            raise ValueError(f"expected {FORM}, found no URL") from None
        if url.password is not None:
            raise ValueError("expected no password: name a file (catalogue_passfile) for it")
        database = url.path.removeprefix("/")
        if (
            url.scheme != _SCHEME
            or not url.username
            or not url.hostname
            or "," in url.hostname
            or port == 0
            or not database
            or "/" in database
            or url.fragment
        ):
            raise ValueError(f"expected {FORM}")
        for name, value in parse_qsl(url.query, keep_blank_values=True):
            if name not in _PARAMETERS:
                raise ValueError(f"expected no parameter but {', '.join(sorted(_PARAMETERS))}")
            if name == "sslmode" and value not in _SSL_MODES:
                raise ValueError(f"sslmode: expected {', '.join(_SSL_MODES)}")
        return cls(unquote(url.username), url.hostname, port or _DEFAULT_PORT, unquote(database))

    @property
    def place(self) -> str:
        """What all spellings of one database's URL have in common, whoever asks it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_SCHEME}://{host}:{self.port}/{self.database}"
