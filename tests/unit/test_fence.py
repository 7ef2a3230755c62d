"""The packet filter around the ports of tf.data service: its program, and what the kernel makes of it."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import socket
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetero_tfdata.service import fence
from hetero_tfdata.service.fence import Fence, filter_of, raise_descriptor_limit
from support import clean_environment, wait_for

PASSES = 0xFFFFFFFF
ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


def verdict(program, source) -> int:
    """What classic BPF returns for a packet from there (linux/filter.h; only what `filter_of` uses)."""
    packet = source.packed
    at, accumulator = 0, 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == 0x28 and value == 0xFFFFF000:
            accumulator = 0x0800 if source.version == 4 else 0x86DD
        elif code == 0x20:
            offset = value - 0xFFF00000 - (12 if source.version == 4 else 8)
            accumulator = int.from_bytes(packet[offset : offset + 4], "big")
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += yes if accumulator == value else no
        elif code == 0x05:
            at += value
        elif code == 0x06:
            return value
        else:
            raise AssertionError(f"unknown code {code:#x}")


@given(st.sets(ADDRESSES, max_size=40), ADDRESSES)
def test_members_and_loopback_get_through(members, stranger):
    program = filter_of(members)
    assert all(verdict(program, member) == PASSES for member in members)
    assert verdict(program, ipaddress.ip_address("127.8.9.10")) == verdict(program, ipaddress.ip_address("::1")) == PASSES
    assert (verdict(program, stranger) == PASSES) == (stranger in members or stranger.is_loopback)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_the_kernel_takes_the_program_of_that_many_hosts(count):
    addresses = [ipaddress.ip_address("10.0.0.1") + number for number in range(count)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fence._attach(listener, filter_of(addresses))
        socket.create_connection(listener.getsockname(), timeout=5).close()


def test_a_port_without_a_fence_is_reported(monkeypatch):
    def refuse(listener, program):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fence, "_attach", refuse)
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        Fence(port, ["127.0.0.1"], lines.append).put_up()
        wait_for(lambda: lines, 10, "the line")
    assert f"no fence around port {port}, whoever reaches it is heard: [Errno 1] Operation not permitted" in lines[0]


def test_descriptors_rise_to_what_is_allowed():
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


# In a network of its own, whose loopback device has the addresses of four hosts; a fence around a listener, and who reaches it.
SPEAKERS = """
import ipaddress, os, socket, subprocess, sys, time
from hetero_tfdata.emulate import syscalls
from hetero_tfdata.service import fence
try:
    if os.geteuid():
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    syscalls.unshare(syscalls.CLONE_NEWNET)
except OSError as error:
    sys.exit(print(f"SKIP {error}"))
for words in (("link", "set", "lo", "up"), *(("address", "add", f"10.1.1.{n}/24", "dev", "lo") for n in (1, 2, 3)),
              *(("address", "add", f"fd00::{n}/64", "dev", "lo", "nodad") for n in (1, 2, 3))):
    subprocess.run(["ip", *words], check=True)

looked_up = fence.looked_up
names = {}
fence.looked_up = lambda name: names.get(name) or looked_up(name)

def reaches(source):
    target = ("10.1.1.1" if "." in source else "fd00::1", listener.getsockname()[1])
    try:
        socket.create_connection(target, timeout=0.3, source_address=(source, 0)).close()
    except TimeoutError:
        return False
    return True

def show(what):
    print(what, *(source for source in ("10.1.1.1", "10.1.1.2", "10.1.1.3", "fd00::2", "fd00::3") if reaches(source)))

listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
fence._UNTIL_ALL_ARE_KNOWN_S = 0.1
wall = fence.Fence(listener.getsockname()[1], ["10.1.1.1", "fd00::2", "late.invalid"], print)
time.sleep(0.5)
show("before:")
wall.put_up()
show("then:")
early = socket.create_connection(("10.1.1.1", listener.getsockname()[1]), source_address=("10.1.1.1", 0))
names["late.invalid"] = frozenset([ipaddress.ip_address("10.1.1.3")])
time.sleep(0.5)
show("a host came up:")
early.sendall(b"still there")
while True:
    accepted, peer = listener.accept()
    if peer[1] == early.getsockname()[1]:
        break
    accepted.close()
print(accepted.recv(100).decode())
"""


def test_strangers_do_not_reach_the_port():
    command = [sys.executable, "-c", textwrap.dedent(SPEAKERS)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
    with contextlib.suppress(IndexError):
        if done.stdout.split()[0] == "SKIP":
            pytest.skip(f"no network namespaces here: {done.stdout}")
    assert done.stdout.splitlines() == [
        "before: 10.1.1.1 10.1.1.2 10.1.1.3 fd00::2 fd00::3",
        "then: 10.1.1.1 fd00::2",
        "a host came up: 10.1.1.1 10.1.1.3 fd00::2",
        "still there",
    ], done.stderr
