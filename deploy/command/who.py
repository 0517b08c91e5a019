"""Who decides: what is kept with each decision that is made by a command."""

from __future__ import annotations

import getpass
import os
import socket


def account() -> str:
    """Return the account that runs the command, and the host that it runs on."""
    return f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return str(os.getuid())
