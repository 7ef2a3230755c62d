"""The addresses of a job's hosts."""

from __future__ import annotations

import ipaddress
import socket
import time
import urllib.parse
from collections.abc import Sequence

from hetero_tfdata.cluster.topology import Host

__all__ = ["Address", "Members", "looked_up"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ADDRESSES_KEPT_S = 10.0


class Members:
    """The addresses of some hosts, looked up as they are needed: names resolve when their hosts are up."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._names = sorted({host.address for host in hosts})
        self._known: dict[str, tuple[float, frozenset[Address]]] = {}

    def __contains__(self, peer: str) -> bool:
        """Whether gRPC's name for the other side ("ipv4:10.0.1.7:51234") has the address of one of the hosts, or is on this
        one (127.0.0.0/8: whoever runs here runs in the job's own container)."""
        kind, _, place = peer.partition(":")
        if kind not in ("ipv4", "ipv6"):
            return False
        address = _address(urllib.parse.unquote(place).rpartition(":")[0].strip("[]"))
        return address is not None and (address.is_loopback or any(address in self._of(name) for name in self._names))

    def _of(self, name: str) -> frozenset[Address]:
        until, found = self._known.get(name, (0.0, frozenset()))
        if time.monotonic() >= until:
            found = looked_up(name)
            # what is not known yet may be in a moment, but not for each call that comes in it
            self._known[name] = time.monotonic() + (_ADDRESSES_KEPT_S if found else 0.5), found
        return found


def looked_up(name: str) -> frozenset[Address]:
    """The addresses of a name or address; none where it has none yet."""
    try:
        found = socket.getaddrinfo(name, None)
    except OSError:
        return frozenset()
    return frozenset(address for *_, place in found if (address := _address(str(place[0]))) is not None)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
