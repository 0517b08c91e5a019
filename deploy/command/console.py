"""Where tables, and what people are asked, are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH: Final = 1000


def console(*, stderr: bool = False) -> Console:
    """Return standard output, or error: as wide as the terminal, and in a pipe as wide as a line needs."""
    from rich.console import Console

    out = Console(stderr=stderr)
    if not out.is_terminal:
        out.width = _PIPE_WIDTH
    return out
