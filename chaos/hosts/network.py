"""A network of hosts: a namespace for each, one for the bridge that joins them, and what can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.hosts.namespace import Namespace, NetworkFailed, names, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Interface, IPv6Interface

    from chaos.hosts.story import Note

INTERFACE: Final = "eth0"
"""Of each host."""

_BRIDGE: Final = "br0"
_PREFIX: Final = "atria"
_TABLE: Final = "drops"
_IPV6: Final = Path("/proc/net/if_inet6")
"""It is there where the kernel has IPv6."""


class Network:
    """Hosts that reach each other over one bridge.

    Parameters
    ----------
    addresses : mapping of str to IPv4Interface or IPv6Interface
        Each host's address and the network that it is in, by the host's name.
    note : callable
        Takes what goes wrong, and is put right.
    """

    def __init__(
        self, addresses: Mapping[str, IPv4Interface | IPv6Interface], note: Note = lambda _: None
    ) -> None:
        self._note = note
        self._addresses = dict(addresses)
        self._bridge = Namespace(f"{_PREFIX}-{os.getpid()}-bridge")
        self._hosts = {name: Namespace(f"{_PREFIX}-{os.getpid()}-{name}") for name in addresses}
        self._ports = {name: f"port{number}" for number, name in enumerate(addresses, start=1)}
        self._macs = {name: f"02:00:00:00:00:{number:02x}" for number, name in enumerate(addresses, start=1)}

    def __getitem__(self, host: str) -> Namespace:
        return self._hosts[host]

    @property
    def macs(self) -> dict[str, str]:
        """The hosts' link-layer addresses, `02:00:00:00:00:01`, by their names."""
        return dict(self._macs)

    def make(self) -> None:
        """Make all of it. What processes that died have left behind is removed first.

        Raises
        ------
        NetworkFailed
        """
        _remove_left_over()
        self._bridge.make()
        self._bridge.ip(
            f"link add {_BRIDGE} type bridge stp_state 0 forward_delay 0", f"link set {_BRIDGE} up"
        )
        for name, host in self._hosts.items():
            self._join(name, host)
        chain = "chain forward { type filter hook forward priority 0; }"
        self._bridge.run("nft", "-f", "-", stdin=f"table bridge {_TABLE} {{\n{chain}\n}}\n")

    def _join(self, name: str, host: Namespace) -> None:
        host.make()
        port, address = self._ports[name], self._addresses[name]
        if _IPV6.exists():  # no address is looked for at others first (RFC 4862): that takes a second
            host.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        run(
            *("ip", "-netns", host.name, "link", "add", INTERFACE, "address", self._macs[name]),
            *("type", "veth", "peer", "name", port, "netns", self._bridge.name),
        )
        self._bridge.ip(f"link set {port} master {_BRIDGE}", f"link set {port} up")
        host.ip(f"link set {INTERFACE} up", f"address add {address} dev {INTERFACE}")

    def remove(self) -> None:
        """Remove all of it. Harmless when there is nothing."""
        for namespace in (*self._hosts.values(), self._bridge):
            namespace.remove()

    def unplug(self, host: str) -> None:
        """Take a host's cable out: it sees that its link is down."""
        self._note(f"{host} is unplugged")
        self._bridge.ip(f"link set {self._ports[host]} down")

    def plug_in(self, host: str) -> None:
        """Put it back."""
        self._note(f"{host} is plugged in")
        self._bridge.ip(f"link set {self._ports[host]} up")

    def cut_off(self, host: str) -> None:
        """Let nothing through to a host or from it, which does not see that: its link is up."""
        self._note(f"{host} is cut off")
        self._drop(f'iifname "{self._ports[host]}"', f'oifname "{self._ports[host]}"')

    def drop(self, source: str, destination: str) -> None:
        """Let nothing through from one host to another; what goes the other way arrives."""
        self._note(f"nothing arrives from {source} at {destination}")
        self._drop(f'iifname "{self._ports[source]}" oifname "{self._ports[destination]}"')

    def let_through(self) -> None:
        """Drop nothing any more."""
        self._note("everything arrives")
        self._bridge.run("nft", "flush", "chain", "bridge", _TABLE, "forward")

    def slow_down(self, host: str, bits_per_s: int) -> None:
        """Let a host send and receive no faster than that (tc-tbf(8))."""
        self._note(f"{host} is slow: {bits_per_s:,} bit/s")
        shape = ["root", "tbf", "rate", f"{bits_per_s}bit", "burst", "32kbit", "latency", "200ms"]
        run("tc", "-netns", self._bridge.name, "qdisc", "replace", "dev", self._ports[host], *shape)
        run("tc", "-netns", self._hosts[host].name, "qdisc", "replace", "dev", INTERFACE, *shape)

    def held_back(self, host: str) -> int:
        """Return how often something had to wait for a slow host's link (tc(8), overlimits)."""
        namespaces = ((self._bridge, self._ports[host]), (self._hosts[host], INTERFACE))
        told = (
            run("tc", "-netns", namespace.name, "-s", "-j", "qdisc", "show", "dev", device, "root")
            for namespace, device in namespaces
        )
        return sum(int(json.loads(one)[0]["overlimits"]) for one in told)

    def speed_up(self, host: str) -> None:
        """Let it be as fast as it can again."""
        self._note(f"{host} is no longer slow")
        for namespace, device in ((self._bridge, self._ports[host]), (self._hosts[host], INTERFACE)):
            with suppress(NetworkFailed):  # it was not slow
                run("tc", "-netns", namespace.name, "qdisc", "delete", "dev", device, "root")

    def reset(self, host: str) -> None:
        """Leave a host with nothing but its own address, and no rules, as one that starts."""
        namespace = self._hosts[host]
        namespace.ip(
            "address flush dev lo scope global",
            f"address flush dev {INTERFACE} scope global",
            f"address add {self._addresses[host]} dev {INTERFACE}",
        )
        namespace.run("nft", "flush", "ruleset")

    async def flap(self, host: str, *, times: int, down_s: float, up_s: float) -> None:
        """Take a host's cable out and put it back, several times; in the end it is in."""
        try:
            for _ in range(times):
                self.unplug(host)
                await asyncio.sleep(down_s)
                self.plug_in(host)
                await asyncio.sleep(up_s)
        finally:
            self.plug_in(host)

    def _drop(self, *which: str) -> None:
        rules = "".join(f"add rule bridge {_TABLE} forward {one} drop\n" for one in which)
        self._bridge.run("nft", "-f", "-", stdin=rules)


def _remove_left_over() -> None:
    for name in names():
        prefix, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if prefix == _PREFIX and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            Namespace(name).remove()
