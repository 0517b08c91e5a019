"""Who decides: what is kept with each decision that is made by a command."""

from __future__ import annotations

import getpass
import socket


def account() -> str:
    """Return the account that runs the command, and the host that it runs on."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
