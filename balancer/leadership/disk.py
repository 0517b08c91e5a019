"""A balancer's notebook as a file."""

from __future__ import annotations

import os
from pathlib import Path


class FileNotebook:
    """A `Notebook` in a file, which is replaced whole.

    Parameters
    ----------
    file : Path
        The folder above it is made when it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        """See `Notebook.read`. A file that cannot be read is as good as lost."""
        try:
            return self._file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, text: str) -> None:
        """See `Notebook.write`."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_name(f".{self._file.name}.new")
        with beside.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
