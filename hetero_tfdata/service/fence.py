"""The fence around the ports of tf.data service, which knows no authentication: only the job's hosts get through.

It is a packet filter on the server's own listening sockets (SO_ATTACH_FILTER, socket(7); classic BPF as in
Documentation/networking/filter.rst of Linux). The kernel drops what comes from other addresses before a connection begins, so
that it costs the server nothing, and connections that are accepted inherit it. A process may do that to its own sockets without
any privilege, in a container too.

It also keeps the process alive: gRPC holds a descriptor for 120 s (its GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, which tf.data
service does not set) for each connection that never spoke HTTP/2, also after the other side has closed it. So a process with
N descriptors bears N / 120 such connections a second for ever (probed on TF 2.15.1: 1,000 a second for 9 s, 9,009 descriptors,
10 after two minutes).
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import resource
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress

from hetero_tfdata.service.members import Address, looked_up

__all__ = ["Fence", "raise_descriptor_limit"]

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket module has no name for it
_UNTIL_ALL_ARE_KNOWN_S, _FROM_THEN_ON_S = 1.0, 10.0
# linux/bpf_common.h and linux/filter.h
_LOAD_WORD, _LOAD_HALF, _AND, _JUMP, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x28, 0x54, 0x05, 0x15, 0x06
_NETWORK_HEADER, _ETHERTYPE = 0xFFF00000, 0xFFFFF000  # SKF_NET_OFF; SKF_AD_OFF + SKF_AD_PROTOCOL
_IPV4, _IPV6 = 0x0800, 0x86DD
_PASS, _DROP = 0xFFFFFFFF, 0
_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


class Fence:
    """Lets the packets of some hosts through to the port that this process listens on, and those of this host itself.

    Names are looked up in a thread, again and again: a host that comes up later gets through from then on.

    Args:
        port: where a server of this process listens, or will.
        names: names or addresses of the hosts.
        log: is told why there can be no fence.
    """

    def __init__(self, port: int, names: Sequence[str], log: Callable[[str], None]) -> None:
        self._port, self._names, self._log = port, sorted(set(names)), log
        self._known: dict[str, frozenset[Address]] = {}
        self._lock = threading.Lock()
        self._stands = False
        threading.Thread(target=self._keep, daemon=True).start()

    def put_up(self) -> None:
        """To be called once the server listens."""
        with self._lock:
            self._stands = True
            self._attach()

    def _keep(self) -> None:
        pause = threading.Event()
        while True:
            found = {name: looked_up(name) or self._known.get(name, frozenset()) for name in self._names}
            with self._lock:
                changed, self._known = found != self._known, found
                if changed and self._stands:
                    self._attach()
            pause.wait(_FROM_THEN_ON_S if all(found.values()) else _UNTIL_ALL_ARE_KNOWN_S)

    def _attach(self) -> None:
        addresses = frozenset[Address]().union(*self._known.values())
        try:
            for listener in _listeners(self._port):
                with closing(listener):
                    _attach(listener, filter_of(addresses))
        except OSError as error:
            self._log(f"no fence around port {self._port}, whoever reaches it is heard: {error}")


def raise_descriptor_limit() -> None:
    """As many file descriptors as this process may have: often many more than it has at first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def filter_of(addresses: Iterable[Address]) -> list[_Instruction]:
    """The program that passes packets from those addresses and from loopback, and drops the others.

    Returns:
        Instructions (code, jump if true, jump if false, value); jumps count the instructions that are skipped.
    """
    drop = (_RETURN, 0, 0, _DROP)
    source = (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12)
    body4 = [source, (_AND, 0, 0, 0xFF000000), *_pass_if(0x7F000000), source]
    body6 = _pass_if_source6(ipaddress.IPv6Address("::1"))
    for address in sorted(addresses, key=int):
        if isinstance(address, ipaddress.IPv4Address):
            body4 += _pass_if(int(address))
        else:
            body6 += _pass_if_source6(address)
    return [
        (_LOAD_HALF, 0, 0, _ETHERTYPE),
        *_for_family(_IPV4, [*body4, drop]),
        *_for_family(_IPV6, [*body6, drop]),
        drop,
    ]


def _for_family(ethertype: int, body: list[_Instruction]) -> list[_Instruction]:
    """Other packets skip the body, with a jump of its own: those of conditions end at 255 instructions."""
    return [(_JUMP_IF_EQUAL, 1, 0, ethertype), (_JUMP, 0, 0, len(body)), *body]


def _pass_if(word: int) -> list[_Instruction]:
    return [(_JUMP_IF_EQUAL, 0, 1, word), (_RETURN, 0, 0, _PASS)]


def _pass_if_source6(address: ipaddress.IPv6Address) -> list[_Instruction]:
    tests: list[_Instruction] = []
    for index, word in enumerate(struct.unpack("!4I", address.packed)):
        behind = 7 - 2 * index  # what is left of this address
        tests += [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + 8 + 4 * index), (_JUMP_IF_EQUAL, 0, behind, word)]
    return [*tests, (_RETURN, 0, 0, _PASS)]


def _listeners(port: int) -> list[socket.socket]:
    """This process's sockets that listen on the port, each as a duplicate to be closed: gRPC may have several."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # gone by now
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            one = socket.socket(fileno=os.dup(int(name)))
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and one.getsockname()[1] == port:
                found.append(one)
            else:
                one.close()
    return found


def _attach(listener: socket.socket, program: Sequence[_Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))
