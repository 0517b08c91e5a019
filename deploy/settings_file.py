"""The shared settings of a cluster on one host, in its settings file: a hand edit is as good as a command."""

from __future__ import annotations

import asyncio
import os
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from cluster.durable import replace_durably
from cluster.settings import loads, shared
from cluster.settings.dicom import SharedDicom
from cluster.settings.shared import SharedSettings
from cluster.settings.values import SettingsError
from cluster.settings_store.protocol import SettingsRevision, SettingsUnavailable
from deploy.lock import held
from deploy.overrides import FILE
from deploy.settings_history import SettingsHistory
from deploy.settings_toml import edited

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from cluster.settings.shared import Document
    from cluster.settings_store.protocol import Change

HISTORY: Final = "settings-history"
_LOCK: Final = ".settings.lock"
_USED: Final = "settings-file"
_POLL_INTERVAL_S: Final = 0.5
"""How often running processes look at it. What changed since the last look may not be written to its end."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A settings file at one moment."""

    text: str
    status: os.stat_result | None
    """None: there is none."""
    document: Document

    @property
    def changed_at(self) -> datetime:
        return datetime.now(UTC) if self.status is None else datetime.fromtimestamp(self.status.st_mtime, UTC)


class FileSettings:
    """A `SettingsStore` in a TOML file, which a person may edit too. Its revisions are kept in a folder.

    Parameters
    ----------
    file : Path
        Made by the first change, if it is not there.
    data_folder : Path
        Of the cluster: there its history is.
    """

    def __init__(self, file: Path, data_folder: Path) -> None:
        self._file = file
        self._data_folder = data_folder
        self._lock = data_folder / _LOCK
        self._history = SettingsHistory(data_folder / HISTORY)

    async def current(self) -> SettingsRevision | None:
        """See `SettingsStore.current`. There is always one: what the file says now."""
        return await asyncio.to_thread(self._current)

    async def history(self) -> list[SettingsRevision]:
        """See `SettingsStore.history`."""
        return await asyncio.to_thread(self._revisions)

    async def change(self, how: Change, *, by: str, what: str) -> SettingsRevision:
        """See `SettingsStore.change`."""
        return await asyncio.to_thread(self._change, how, by, what)

    async def watch(self) -> AsyncGenerator[SharedSettings]:
        """See `SettingsStore.watch`."""
        await asyncio.to_thread(self._note_use)
        looked_at: object = self
        yielded: Document | None = None
        seen = self._stamp()
        while True:
            before, seen = seen, self._stamp()
            if seen == before != looked_at:
                looked_at = seen
                try:
                    document = await asyncio.to_thread(self._look, must_be_there=yielded is not None)
                except (SettingsError, SettingsUnavailable) as error:
                    log.warning("settings.kept", why=str(error))
                else:
                    if document != yielded:
                        yielded = document
                        yield shared.parse(document)
            await asyncio.sleep(_POLL_INTERVAL_S)

    def _note_use(self) -> None:
        """Write down which file running processes go by, where it is not that of the data folder."""
        used, file = self._data_folder / _USED, self._file.absolute()
        try:
            if file == self._data_folder / FILE:
                used.unlink(missing_ok=True)
            elif file_used(self._data_folder) != file:
                with held(self._lock):
                    replace_durably(used, f"{file}\n")
        except OSError as error:
            log.warning("settings.file_not_noted", error=str(error))

    def _current(self) -> SettingsRevision:
        with self._worded():
            return self._noted(self._read())

    def _revisions(self) -> list[SettingsRevision]:
        with self._worded():
            now = self._noted(self._read())
            return [now, *(former for former in self._history.all() if former.number < now.number)]

    def _change(self, how: Change, by: str, what: str) -> SettingsRevision:
        with self._worded():
            self._data_folder.mkdir(parents=True, exist_ok=True)
            file = self._file.resolve()  # a link stays one
            with held(file.with_name(f".{file.name}.lock")), held(self._lock):
                seen = self._read()
                last = self._note(seen)
                document = shared.document(how(shared.parse(seen.document)))
                if document == seen.document:
                    return last
                text = edited(seen.text, seen.document, document)
                self._check(seen.text, text, document)
                revision = SettingsRevision(last.number + 1, datetime.now(UTC), by, what, document)
                replace_durably(file, text, like=seen.status)
                self._history.add(revision)
                return revision

    def _look(self, *, must_be_there: bool) -> Document:
        with self._worded():
            seen = self._read()
            if must_be_there and seen.status is None:
                raise SettingsError(f"{self._file} is not there any more")
            if seen.document or self._history.last() is not None:
                self._noted(seen)
            return seen.document

    def _noted(self, seen: _Seen) -> SettingsRevision:
        """Return the revision of what was seen; it is noted first, unless this process may not."""
        last = self._history.last()
        if last is not None and last.document == seen.document:
            return last
        try:
            with held(self._lock):
                return self._note(self._read())
        except OSError:
            return _by_hand(seen, last)

    def _note(self, seen: _Seen) -> SettingsRevision:
        """Return the revision of what was seen, noted. The lock is held."""
        last = self._history.last()
        if last is not None and last.document == seen.document:
            return last
        revision = _by_hand(seen, last)
        self._history.add(revision)
        return revision

    def _check(self, before: str, after: str, document: Document) -> None:
        """Look whether the changed text says what it should, and of all else what it said before."""
        if self._document(after) != document or _rest(after) != _rest(before):
            raise SettingsError(f"{self._file} is written in a way that only a person can change: edit it")

    def _read(self) -> _Seen:
        try:
            with self._file.open(encoding="utf-8") as file:
                text, status = file.read(), os.fstat(file.fileno())
        except FileNotFoundError:
            return _Seen("", None, {})
        except UnicodeDecodeError as error:
            raise SettingsError(f"{self._file}: is not UTF-8: {error}") from error
        return _Seen(text, status, self._document(text))

    def _document(self, text: str) -> Document:
        try:
            return shared.document(loads(text))
        except SettingsError as error:
            raise SettingsError(f"{self._file}: {error}") from error

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

    @contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self._file
            raise SettingsUnavailable(f"{where}: {error.strerror or error}: nothing was changed") from error


def file_used(data_folder: Path) -> Path | None:
    """Return the settings file that processes of a data folder went by last, if it is not the folder's own.

    Raises
    ------
    OSError
    """
    try:
        return Path((data_folder / _USED).read_text("utf-8").rstrip("\n"))
    except FileNotFoundError:
        return None


def _by_hand(seen: _Seen, last: SettingsRevision | None) -> SettingsRevision:
    """Return the revision that somebody made who wrote the file himself."""
    what = "as the settings file was found" if last is None else "the settings file was edited by hand"
    number = 1 if last is None else last.number + 1
    return SettingsRevision(number, seen.changed_at, "", what, seen.document)


def _rest(text: str) -> dict[str, object]:
    """Return what a settings file says besides the shared settings."""
    values = tomllib.loads(text)
    dicom = {
        key: value for key, value in values.get("dicom", {}).items() if key not in SharedDicom.model_fields
    }
    rest = {key: value for key, value in values.items() if key not in SharedSettings.model_fields}
    return {**rest, "dicom": dicom}
