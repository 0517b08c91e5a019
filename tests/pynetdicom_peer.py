"""pynetdicom as a peer, without a race of its own."""

from __future__ import annotations

import time

from pynetdicom.association import Association


def at_rest(association: Association) -> Association:
    """Return an association once its own thread waits, so that the answer to a request is left to who asks.

    pynetdicom has the thread pause before each request, and takes it for paused a moment too early: a quick
    answer is then taken by the thread, and the request waits for it in vain.
    """
    association._reactor_checkpoint.clear()
    while not association._reactor_checkpoint._cond._waiters:  # type: ignore[attr-defined]  # of threading
        time.sleep(0.0005)
    return association
