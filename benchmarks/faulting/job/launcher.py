"""The entry point of the jobs that faults happen to: `launch`, and what a cell has a host do besides.

--workers N             worker processes per serving host
--first-contact-s S     until another host must have come up
--lease-s S             how long a host that was there may be silent
--occupy OFFSET         the second data host has the port at that offset of its block taken by another program
--garbage N             the second data host sends what nobody asked for to the ports of every host, N connections a second
--garbage-to WHICH      of these ports: all, or what listens there (dispatchers, health, workers)
--garbage-from WHOM     an address of this host: one of the job's (host), or one that is none (stranger)
--strangers 1           the second data host asks the leader to end the job: without the token, with another one, and, where it
                        has a network of its own, from an address that is none of the job's; from there it connects to
                        dispatcher and worker, too
--die GROUP             the launcher of that group's first host is killed, some seconds after it began
--read-only 1           the first data host finds no folder that it can write in
--data-python FILE      the data hosts go on with that Python
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import threading

import strangers

import hetero_tfdata
from hetero_tfdata.cluster.topology import Cluster, Role
from hetero_tfdata.errors import HeteroTFDataError
from hetero_tfdata.launch.entry import launch
from hetero_tfdata.launch.job import Deadlines

_DIE_AFTER_S = 14.0
_AGAIN = "LAUNCHED_BY_ANOTHER_PYTHON"


def main() -> int:
    """Plays this host's part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--first-contact-s", type=float, default=120.0)
    parser.add_argument("--lease-s", type=float, default=Deadlines.lease_s)
    parser.add_argument("--occupy", type=int, default=-1)
    parser.add_argument("--garbage", type=float, default=0.0)
    parser.add_argument("--garbage-to", default="all")
    parser.add_argument("--garbage-from", default="host", choices=["host", "stranger"])
    parser.add_argument("--strangers", type=int, default=0)
    parser.add_argument("--die", default="")
    parser.add_argument("--read-only", type=int, default=0)
    parser.add_argument("--data-python", default="")
    options, rest = parser.parse_known_args()
    try:
        cluster = Cluster.discover()
        if options.data_python and cluster.role is Role.DATA and _AGAIN not in os.environ:
            # with this package, and none of this Python's own modules
            package = os.path.dirname(os.path.dirname(hetero_tfdata.__file__))
            environment = {**os.environ, "PYTHONPATH": package, _AGAIN: "1"}
            os.execve(options.data_python, [options.data_python, *sys.argv], environment)
        is_second = len(cluster.data_hosts) > 1 and cluster.here == cluster.data_hosts[1]
        if is_second and options.occupy >= 0:
            taken = socket.create_server(("0.0.0.0", cluster.here.first_port + options.occupy))
            print(f"process {os.getpid()} listens on {taken.getsockname()[1]}", flush=True)
        if is_second and options.garbage:
            strangers.send_garbage(cluster, options.garbage, options.garbage_to, options.garbage_from == "stranger")
        if is_second and options.strangers:
            strangers.ask_to_end(cluster)
        if options.die == cluster.group.name and cluster.here in (cluster.data_hosts[0], cluster.leader_host):
            threading.Timer(_DIE_AFTER_S, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if options.read_only and cluster.here == cluster.data_hosts[0]:
            # as tempfile finds it where neither /tmp nor another of its folders can be written
            tempfile._candidate_tempdir_list = lambda: ["/proc"]  # type: ignore[attr-defined]
        deadlines = Deadlines(first_contact_s=options.first_contact_s, lease_s=options.lease_s)
        return launch("train.py", rest, workers=options.workers, deadlines=deadlines)
    except HeteroTFDataError as error:
        print(f"launcher.py: {error}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
