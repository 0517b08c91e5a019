"""The settings that a running process follows, and what it goes by when nobody can tell it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog

from cluster.durable import replace_durably
from cluster.settings import shared
from cluster.settings.live import LiveSettings
from cluster.settings.values import SettingsError
from deploy.lock import held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cluster.settings import Settings
    from cluster.settings.shared import SharedSettings
    from cluster.settings_store.protocol import SettingsStore

_KEPT: Final = "settings.json"
_LOCK: Final = ".settings.json.lock"
_PAUSE_S: Final = 5.0

log = structlog.get_logger()


class KeptSettings:
    """The shared settings that were seen last, in a file that all processes of a host have in common.

    Parameters
    ----------
    data_folder : Path
    """

    def __init__(self, data_folder: Path) -> None:
        self._file = data_folder / _KEPT
        self._lock = data_folder / _LOCK

    def read(self) -> SharedSettings | None:
        """Return them, or None where there are none that can be read."""
        try:
            return shared.parse(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SettingsError) as error:
            log.warning("settings.kept_unreadable", file=str(self._file), why=str(error))
            return None

    def write(self, settings: SharedSettings) -> None:
        """Keep them, if they are not kept already. Who cannot do so goes on, and says so."""
        text = json.dumps(shared.document(settings), indent=1) + "\n"
        try:
            with held(self._lock):
                if not self._file.exists() or self._file.read_text("utf-8") != text:
                    replace_durably(self._file, text)
        except (OSError, UnicodeDecodeError) as error:
            log.warning("settings.not_kept", file=str(self._file), error=str(error))


@asynccontextmanager
async def following(
    settings: Settings, store: SettingsStore, kept: KeptSettings | None, *, cold_start_s: float
) -> AsyncIterator[LiveSettings]:
    """Follow a store for as long as the context lasts.

    Parameters
    ----------
    settings : Settings
        Of this process: of the shared ones among them, those of the store take the place.
    store : SettingsStore
    kept : KeptSettings or None
        What this host saw last: it holds where the store tells nothing in time. None: `settings` does.
    cold_start_s : float
        How long the store is waited for.
    """
    live = LiveSettings(settings)
    told = asyncio.Event()
    task = asyncio.create_task(_follow(live, store, kept, told), name="settings")
    try:
        try:
            async with asyncio.timeout(cold_start_s):
                await told.wait()
        except TimeoutError:
            _start_cold(live, kept)
        yield live
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _start_cold(live: LiveSettings, kept: KeptSettings | None) -> None:
    last = kept.read() if kept else None
    if last is not None:
        _change(live, last)
    log.warning("settings.cold_start", holds="what this host saw last" if last else "the settings file")


async def _follow(
    live: LiveSettings, store: SettingsStore, kept: KeptSettings | None, told: asyncio.Event
) -> None:
    own = shared.document(live.now)
    while True:
        try:
            async with aclosing(store.watch()) as changes:
                async for settings in changes:
                    if not told.is_set():
                        _compare(own, settings)
                    _change(live, settings)
                    told.set()
                    if kept is not None:
                        await asyncio.to_thread(kept.write, settings)
        except Exception:  # a process that no longer follows must not go on unnoticed, nor end
            log.exception("settings.not_followed", again_in_s=_PAUSE_S)
        await asyncio.sleep(_PAUSE_S)


def _change(live: LiveSettings, settings: SharedSettings) -> None:
    before = shared.document(live.now)
    try:
        live.change(shared.apply(live.now, settings))
    except SettingsError as error:  # with what is this host's own they do not go together
        log.warning("settings.kept", why=str(error))
        return
    if keys := shared.differences(before, shared.document(live.now)):
        log.info("settings.changed", keys=keys)


def _compare(own: shared.Document, settings: SharedSettings) -> None:
    """Say where the settings file of this host says something else in vain."""
    if own and (keys := shared.differences(own, shared.document(settings))):
        log.warning("settings.file_differs", keys=keys, holds="what the cluster has")
