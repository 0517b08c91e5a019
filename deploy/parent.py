"""How a child process becomes who it is to be, and gets to know that its parent has died."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import signal

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process runs as."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...]


def die_with(parent: int, number: signal.Signals, account: Account | None = None) -> None:
    """Have the kernel send a signal to this process when its parent dies (prctl(2), PR_SET_PDEATHSIG).

    To be called in the child, between fork and exec. With an account it becomes that first: when the
    user changes, the kernel forgets about the signal.
    """
    if account is not None:
        os.setgroups(account.groups)
        os.setgid(account.group)
        os.setuid(account.user)
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(0)
