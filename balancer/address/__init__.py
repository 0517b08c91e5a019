"""What a balancer does to its host's network: the service address, and the detour of a former leader's flows.

Who leads is decided elsewhere; here is done what was decided, for Linux, with CAP_NET_ADMIN and CAP_NET_RAW.
"""

from __future__ import annotations

import math

from balancer.address.absent import NoAddress, NoDetour
from balancer.address.detour import TCP_TAIL_S, Front, KernelDetour
from balancer.address.faults import AddressFault
from balancer.address.service_address import KernelAddress
from cluster.settings import Settings, TlsMode

__all__ = ["AddressFault", "KernelAddress", "KernelDetour", "kernel_address", "kernel_detour"]


def kernel_address(settings: Settings) -> KernelAddress | NoAddress:
    """Return the service address of the settings, after removing what a killed process left of it.

    To be called once, at the start of the process.

    Raises
    ------
    AddressFault
        The kernel does not let this process change the interface.
    """
    service = settings.service
    if service.address is None or service.interface is None:
        return NoAddress()
    address = KernelAddress(
        service.address, service.interface, announce_interval_s=service.announce_interval_s
    )
    address.clear()
    return address


def kernel_detour(settings: Settings) -> KernelDetour | NoDetour:
    """Return the detour of the settings' service address, after removing what a killed process left of it.

    To be called once, at the start of the process.

    Raises
    ------
    AddressFault
        The kernel does not let this process change the host's rules.
    """
    service = settings.service
    if service.address is None or service.interface is None:
        return NoDetour()
    tls = () if settings.tls.mode is TlsMode.OFF else (settings.tls.port,)
    detour = KernelDetour(
        Front(
            address=service.address,
            interface=service.interface,
            ports=(settings.dicom.port, *tls),
            remembered_s=math.ceil(settings.upper_layer.idle_timeout_s) + TCP_TAIL_S,
        )
    )
    detour.clear()
    return detour
