"""The settings of a process that runs, some of which are changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from cluster.settings import Settings


class LiveSettings:
    """What holds now. Who needs a value asks for it when it is needed, and keeps none.

    Parameters
    ----------
    settings : Settings
        What holds at first.
    """

    def __init__(self, settings: Settings) -> None:
        self._now = settings
        self._followers: list[Callable[[Settings], None]] = []

    @property
    def now(self) -> Settings:
        """All settings, as they are at this moment."""
        return self._now

    def change(self, settings: Settings) -> None:
        """Let other settings hold from now on."""
        self._now = settings
        for follower in self._followers:
            follower(settings)

    def follow(self, follower: Callable[[Settings], None]) -> None:
        """Tell what holds, at once and whenever it was changed: for what cannot ask by itself."""
        self._followers.append(follower)
        follower(self._now)
