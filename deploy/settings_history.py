"""The revisions of a settings file: a folder with a small file for each."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cluster.durable import replace_durably
from cluster.settings_store.codec import decode, encode
from cluster.settings_store.protocol import REVISIONS_KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.settings_store.protocol import SettingsRevision


class SettingsHistory:
    """Revisions in a folder, made with the first. One process at a time adds to it.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last(self) -> SettingsRevision | None:
        """Return the newest revision, or None.

        Raises
        ------
        OSError, SettingsError
        """
        files = self._files()
        return _read(files[-1]) if files else None

    def all(self) -> list[SettingsRevision]:
        """Return those that are kept, the newest first.

        Raises
        ------
        OSError, SettingsError
        """
        return [_read(file) for file in reversed(self._files()[-REVISIONS_KEPT:])]

    def add(self, revision: SettingsRevision) -> None:
        """Add a revision, and remove those that are too old.

        Raises
        ------
        OSError
        """
        self._folder.mkdir(exist_ok=True)
        replace_durably(self._folder / f"{revision.number:08}.json", encode(revision).decode("utf-8") + "\n")
        for file in self._files()[:-REVISIONS_KEPT]:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.json"))


def _read(file: Path) -> SettingsRevision:
    return decode(file.read_bytes(), where=str(file))
