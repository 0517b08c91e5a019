"""How many sites an answer needs.

There are N sites, and a write is acknowledged once W of them hold it. A reader asks R = N - W + 1 sites.

Whatever R sites are asked, one of them holds each acknowledged write: the sites that do not hold it are at
most N - W, and R is one more than that. Two writes share a site as long as 2 W > N: the sites of the first
are W, those outside it N - W < W, so that W sites of the second cannot all lie outside.

With N = 3 and W = 2: R = 2. One site may be away for writers, N - W = 1, and for readers that must miss
nothing, N - R = W - 1 = 1. A reader that knows what it is looking for needs only one site that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quorum:
    """N sites, of which W hold what was acknowledged.

    Raises
    ------
    ValueError
        W is not more than half of N and at most N.
    """

    sites: int
    """N."""
    write: int
    """W: sites that hold a copy before success is answered."""

    def __post_init__(self) -> None:
        if not self.sites / 2 < self.write <= self.sites:
            raise ValueError(
                f"W must be more than half of {self.sites} sites and at most all: found {self.write}"
            )

    @property
    def read(self) -> int:
        """R: sites to ask so that no acknowledged write is missed."""
        return self.sites - self.write + 1
