"""A store of shared settings: what holds, what held before, and who changed it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from cluster.settings.shared import Document, SharedSettings

REVISIONS_KEPT: Final = 200
"""The last so many revisions can be looked at, and gone back to."""


class SettingsUnavailable(Exception):
    """The store did not do what was asked; the message says whether it may have happened all the same."""


@dataclass(frozen=True, slots=True)
class SettingsRevision:
    """The shared settings, as one change left them."""

    number: int
    """Each has one more than that before it."""
    changed_at: datetime
    """With a time zone."""
    changed_by: str
    """`user@host`; empty where nobody knows."""
    change: str
    """What was done, in words."""
    document: Document = field(repr=False)
    """All shared settings; a later release may have others than this one knows."""


Change: TypeAlias = Callable[[SharedSettings], SharedSettings]
"""What is done to the settings. It may be done several times, and raises `SettingsError` to refuse."""


class SettingsStore(Protocol):
    """Where the shared settings are kept.

    All methods but `watch` raise `SettingsUnavailable`, and `SettingsError` where what is kept is damaged.
    """

    async def current(self) -> SettingsRevision | None:
        """Return what holds, or None for a cluster that never had any: then the settings file does."""

    async def history(self) -> list[SettingsRevision]:
        """Return what holds and what held before, the newest first: as many as are kept."""

    async def change(self, how: Change, *, by: str, what: str) -> SettingsRevision:
        """Change the settings, and return the revision that then holds.

        Where somebody else changes them at the same time, it is done to what he left. What changes nothing
        makes no revision.

        Parameters
        ----------
        how : callable
        by, what : str
            Kept with the revision.

        Raises
        ------
        SettingsError
            What holds, or what would come of it, is not valid: nothing was changed.
        """

    def watch(self) -> AsyncGenerator[SharedSettings]:
        """Yield the settings that hold: at once, and whenever they were changed.

        It neither ends nor raises when the store is unavailable, or holds what this release does not
        understand: it says so in the log, and yields again when that is over.
        """
