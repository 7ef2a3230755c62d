"""The SageMaker entry point with tf.data service alone, in the manner of the published job: a dispatcher on the first data
host, a worker on every host of both groups, fixed ports, and a connection that ends the data hosts when training has ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

DISPATCHER_PORT, WORKER_PORT, END_PORT = 6000, 6001, 16000


def main() -> int:
    """This host's part."""
    groups = json.loads(os.environ["SM_INSTANCE_GROUPS_DICT"])
    here, mine = os.environ["SM_CURRENT_HOST"], os.environ["SM_CURRENT_INSTANCE_GROUP"]
    data_hosts = sorted(groups.get("data_group", {}).get("hosts", []))
    script = [sys.executable, "train.py", *sys.argv[1:]]
    if not data_hosts:
        return subprocess.run(script).returncode
    dispatcher = data_hosts[0]
    with contextlib.ExitStack() as servers:
        if here == dispatcher:
            servers.enter_context(server("dispatcher"))
        servers.enter_context(server("worker", f"{dispatcher}:{DISPATCHER_PORT}", f"{here}:{WORKER_PORT}"))
        if mine == "data_group":
            wait_for_the_end()
            return 0
        code = subprocess.run(script, env={**os.environ, "STOCK_SERVICE": f"grpc://{dispatcher}:{DISPATCHER_PORT}"}).returncode
    for host in data_hosts:
        socket.create_connection((host, END_PORT), timeout=30).close()
    return code


@contextlib.contextmanager
def server(*arguments: str):
    """A server process, killed in the end."""
    process = subprocess.Popen([sys.executable, "stock_server.py", *arguments])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_for_the_end() -> None:
    """Until somebody connects."""
    with socket.create_server(("", END_PORT)) as listening:
        listening.settimeout(1800)
        listening.accept()[0].close()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
