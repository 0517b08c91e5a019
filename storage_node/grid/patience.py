"""How long a read waits for one site before another is asked as well."""

from __future__ import annotations

from typing import Final

UNHURRIED_BYTES: Final = 1024 * 1024
"""A site is waited for as long again for each so many bytes: a large piece takes its time anywhere."""
LEAST_S: Final = 0.05
TIMES: Final = 10
"""How many times as long as they take as a rule reads are waited for."""

_SLOWER: Final = 0.25
"""How much a read counts that took longer than usual: where all do, to ask twice as many makes it worse."""
_QUICKER: Final = 0.02


class Patience:
    """Learns from what reads take: where they are quick, one that hangs is found out soon.

    Parameters
    ----------
    limit_s : float
        How long is waited at most for `UNHURRIED_BYTES` or less, and until something is known.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._usual_s: float | None = None

    def took(self, time_s: float, size_bytes: int) -> None:
        """Tell how long a site took to give so many bytes."""
        time_s /= _unhurried(size_bytes)
        usual_s = time_s if self._usual_s is None else self._usual_s
        self._usual_s = usual_s + (time_s - usual_s) * (_SLOWER if time_s > usual_s else _QUICKER)

    def for_s(self, size_bytes: int) -> float:
        """Return how long to wait for so many bytes."""
        wanted_s = self._limit_s if self._usual_s is None else max(LEAST_S, TIMES * self._usual_s)
        return min(self._limit_s, wanted_s) * _unhurried(size_bytes)


def _unhurried(size_bytes: int) -> float:
    return max(1.0, size_bytes / UNHURRIED_BYTES)
