"""What keeps a balancer from changing the network of its host."""

from __future__ import annotations

import errno
import os
from typing import Final

_REMEDIES: Final = {
    errno.EPERM: "this process lacks the right: give it CAP_NET_ADMIN and CAP_NET_RAW",
    errno.EACCES: "this process lacks the right: give it CAP_NET_ADMIN and CAP_NET_RAW",
    errno.ENODEV: "there is no such interface: correct service.interface, or wait until it is there",
    errno.ENETDOWN: "the interface is down: bring it up",
    errno.EOPNOTSUPP: "the kernel has no IPv6 there: let it have it, or choose an IPv4 address",
}


class AddressFault(Exception):
    """The kernel did not do as it was asked. The message is a sentence for the operator: what to do."""


def fault(what: str, error: OSError) -> AddressFault:
    """Return what to raise when `what` failed, with what can be done about it."""
    number = error.errno or 0
    return AddressFault(f"{what}: {_REMEDIES.get(number, os.strerror(number))}")
