"""Who holds a port."""

from __future__ import annotations

import socket
import subprocess
import sys

from hetero_tfdata.service.port_owner import owner_of_port

LISTEN = "import socket, sys; s = socket.create_server(('0.0.0.0', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"


def test_another_process_is_named_with_its_command():
    with subprocess.Popen([sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        owner = owner_of_port(port)
        other.communicate()
    assert owner.startswith(f"process {other.pid} ({sys.executable} -c import socket")
    assert len(owner) < 120


def test_a_port_that_no_process_listens_on_is_another_programs():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # without listen()
        assert owner_of_port(bound.getsockname()[1]) == "another program"
