"""The settings of a process that runs, some of which are changed meanwhile."""

from __future__ import annotations

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

    @property
    def now(self) -> Settings:
        """All settings, as they are at this moment."""
        return self._now

    def change(self, settings: Settings) -> None:
        """Let other settings hold from now on."""
        self._now = settings
