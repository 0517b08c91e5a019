"""Where tables are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH: Final = 1000


def console() -> Console:
    """Return standard output: as wide as the terminal is, and in a pipe as wide as a line needs to be."""
    from rich.console import Console

    out = Console()
    if not out.is_terminal:
        out.width = _PIPE_WIDTH
    return out
