"""The network of a run: one namespace for each host, joined by a bridge in a namespace of its own.

The machine's own network is neither touched nor reachable. Made with iproute2, because its `ip netns exec` is how others
enter a host's network, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from hetero_tfdata.emulate.privileges import NETWORK_NAMESPACES, Privileges

__all__ = ["INTERFACE", "Network", "address", "names", "remove_names"]

# SageMaker's name of a host's interface.
INTERFACE = "eth0"
# Nobody else is in this network, so any range will do.
_RANGE = ipaddress.ip_network("10.77.0.0/16")
# A VPC's, which EC2 instances use among themselves.
_MTU = 9001
# A token bucket must hold what goes out between two ticks of the slowest kernel clock (100 a second), and at least one
# of the 64 KiB packets that TCP hands to a virtual interface.
_BURST_S = 0.01
_MIN_BURST_BYTES = 128 << 10
# What waits longer in the queue is dropped, as in a switch.
_LATENCY = "50ms"

_MAKE = """
mkdir -p {folder}
for name; do : > {folder}/$name; unshare --net={folder}/$name true; done
"""
_REMOVE = """
for name; do umount -l {folder}/$name 2>/dev/null; rm -f {folder}/$name; done
rmdir {folder} 2>/dev/null
exit 0
"""


def address(number: int) -> str:
    """The address of algo-NUMBER."""
    return str(_RANGE[number])


def names(run: str, hosts: Sequence[str]) -> dict[str, str]:
    """Host -> the name of its network namespace; "" is the bridge's."""
    return {host: f"{run}-{host}" for host in hosts} | {"": f"{run}-bridge"}


def remove_names(privileges: Privileges, namespaces: Sequence[str]) -> None:
    """Removes names of network namespaces; each namespace goes with its last process."""
    if namespaces:
        privileges.run(["sh", "-c", _REMOVE.format(folder=NETWORK_NAMESPACES), "sh", *namespaces])


class Network:
    """The links of a run's hosts, by host name."""

    def __init__(self, privileges: Privileges, run: str, addresses: dict[str, str]) -> None:
        self.privileges, self._addresses = privileges, addresses
        self.namespaces = names(run, list(addresses))
        self._ports = {host: f"port{number}" for number, host in enumerate(addresses, start=1)}

    def build(self) -> None:
        """Makes namespaces, bridge and links; every host reaches every other one."""
        make = "set -e" + _MAKE.format(folder=NETWORK_NAMESPACES)
        self.privileges.run(["sh", "-c", make, "sh", *self.namespaces.values()])
        bridge = ["link add name bridge type bridge forward_delay 0", f"link set bridge mtu {_MTU} up"]
        for host, port in self._ports.items():
            far = f"name {INTERFACE} mtu {_MTU} netns {self.namespaces[host]}"
            bridge += [
                f"link add name {port} mtu {_MTU} type veth peer {far}",
                f"link set {port} master bridge up",
            ]
        self._ip("", bridge)
        for host, own in self._addresses.items():
            self._ip(
                host,
                [
                    "link set lo up",
                    f"address add {own}/{_RANGE.prefixlen} broadcast + dev {INTERFACE}",
                    f"link set {INTERFACE} up",
                ],
            )

    def path(self, host: str) -> str:
        """The file that stands for the host's network namespace."""
        return str(Path(NETWORK_NAMESPACES, self.namespaces[host]))

    def limit(self, host: str, gbps: float | None) -> None:
        """Limits the host's link in each direction; None lifts the limit."""
        for side, interface in (("", self._ports[host]), (host, INTERFACE)):
            command = ["tc", "-n", self.namespaces[side], "qdisc"]
            # Replaced where there is one; what there is without one can't be deleted.
            self.privileges.run([*command, "replace", "dev", interface, "root", *_queue(gbps)])

    def cut(self, host: str) -> None:
        """Pulls the host's cable."""
        self._ip("", [f"link set {self._ports[host]} down"])

    def restore(self, host: str) -> None:
        """Plugs it in again."""
        self._ip("", [f"link set {self._ports[host]} up"])

    def _ip(self, host: str, commands: list[str]) -> None:
        self.privileges.run(["ip", "-n", self.namespaces[host], "-batch", "-"], "\n".join(commands) + "\n")


def _queue(gbps: float | None) -> list[str]:
    if gbps is None:
        return ["pfifo"]
    burst = max(_MIN_BURST_BYTES, int(gbps * 1e9 / 8 * _BURST_S))
    return ["tbf", "rate", f"{int(gbps * 1e9)}bit", "burst", str(burst), "latency", _LATENCY]
