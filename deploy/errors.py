"""What is said to a person at a terminal."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can mend. The message is one line: what happened, to what, what to do."""
