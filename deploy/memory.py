"""How memory is handed back: not after each instance.

An image is half a megabyte, allocated when it arrives and freed when it is stored. By default glibc gives
such a block back to the kernel at once, asks for it again for the next image, and pays for each of its pages
again: with four associations that more than halved what a worker received
(`docs/decisions/0007-freed-blocks-are-kept.md`).
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

TRIM_THRESHOLD_BYTES: Final = 64 * 1024 * 1024
"""How much free memory at the top of the heap a process keeps."""
MMAP_THRESHOLD_BYTES: Final = 4 * 1024 * 1024
"""From which size on a block is a mapping of its own, given back as soon as it is freed."""

COLLECT_AFTER: Final = 10_000
"""How many objects come to be before Python looks for such as only refer to each other (gc.set_threshold)."""


def keep_freed_blocks() -> None:
    """Set glibc's thresholds (mallopt(3)) for this process; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def collect_seldom() -> None:
    """Have Python's collector leave alone what is there by now, and come seldom for the rest.

    What a store or a read makes is freed when it is done with: the collector finds next to nothing, and at
    its usual pace takes 0.4 ms of each instance's 5.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
