"""The ranks of an emulated MPI job: `horovodrun` starts one proxy for each, the rank itself runs below its own host.

`mpirun` starts ranks on other hosts through `orted`. Here each host of the distribution group listens on a Unix socket,
and the proxies, which horovodrun starts on the master, ask the rank's host to run it. So killing a host kills its ranks,
and a rank sees the files of its own host, and prints to its log. (Under mpirun it prints to the master's.) Its variables
are mpirun's: SM_* of the master.

As a program: `python -m hetero_tfdata.emulate.ranks SOCKET_FOLDER HOST...` is the proxy.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hetero_tfdata.emulate.console import LineSplitter
from hetero_tfdata.emulate.mpirun import world_variables
from hetero_tfdata.emulate.task import HostTask

__all__ = ["RankServer", "horovodrun_command", "socket_path"]

# Hosts of one job may come up 20 minutes apart; nothing waits longer for a rank.
START_TIMEOUT_S = 20 * 60
# horovodrun kills its processes 5 s after their SIGTERM; a rank whose proxy is gone gets as long.
_RANK_GRACE_S = 5.0
# After the first ranks have come and gone: horovodrun may have ended before it started the others.
_SETTLE_S = 10.0
# Horovod's variables, whose meaning is that of Open MPI's.
_PLACE = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")


def socket_path(folder: str, host: str) -> Path:
    """Where the host listens for ranks to run."""
    return Path(folder, f"{host}.sock")


def horovodrun_command(task: HostTask) -> list[str]:
    """The command that starts one proxy per rank on this machine, in an allocation with the job's hosts.

    horovodrun starts processes without ssh only where a host's name resolves to this machine, and takes hosts of
    different names for different hosts. So every host gets another spelling of localhost: the ranks' rendezvous
    needs the right number of local and cross ranks, or it forgets addresses that late ranks still ask for.
    """
    hosts = [f"{_localhost(number)}:{task.processes_per_host}" for number in range(len(task.rank_hosts))]
    proxy = [sys.executable, "-m", "hetero_tfdata.emulate.ranks", task.sockets, *task.rank_hosts]
    horovodrun = [sys.executable, "-m", "hetero_tfdata.emulate.horovodrun"]
    options = ["--gloo", "--disable-cache", "--gloo-timeout-seconds", str(START_TIMEOUT_S)]
    number = len(task.rank_hosts) * task.processes_per_host
    return [*horovodrun, *options, "-np", str(number), "-H", ",".join(hosts), *proxy]


def _localhost(number: int) -> str:
    """localhost, Localhost, lOcalhost, LOcalhost ...: names are looked up without regard to case."""
    return "".join(letter.upper() if number >> bit & 1 else letter for bit, letter in enumerate("localhost"))


class _Rank:
    """One rank: its proxy's connection, then its process and what it prints."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection: socket.socket | None = connection
        self.received = b""
        self.number: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.output = -1
        self.lines = LineSplitter()
        self.kill_at: float | None = None
        self.told_to_end = False

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None


class RankServer:
    """Runs ranks below this process when their proxies ask for it; driven by the caller's selector and `poll`."""

    def __init__(self, task: HostTask, selector: selectors.BaseSelector, environment: dict[str, str]) -> None:
        self._task, self._selector, self._environment = task, selector, environment
        self._ranks: list[_Rank] = []
        self._idle_since = time.monotonic()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(socket_path(task.sockets, task.host)))
        self._listener.listen(task.processes_per_host)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def running_pids(self) -> dict[int, Callable[[], object]]:
        """Process ids of the ranks, and how to take note of each one's end."""
        return {rank.process.pid: rank.process.poll for rank in self._ranks if rank.process is not None and rank.runs}

    @property
    def exit_codes(self) -> dict[int, int]:
        """Of the ranks that ended here: rank -> subprocess's return code."""
        return {
            rank.number: rank.process.returncode
            for rank in self._ranks
            if rank.number is not None and rank.process is not None and rank.process.returncode is not None
        }

    @property
    def own_failures(self) -> dict[int, int]:
        """The exit codes of ranks that failed by themselves, not because another rank did."""
        told = {rank.number for rank in self._ranks if rank.told_to_end}
        return {rank: code for rank, code in self.exit_codes.items() if code != 0 and rank not in told}

    @property
    def running(self) -> bool:
        """Whether any rank runs."""
        return any(rank.runs for rank in self._ranks)

    @property
    def finished(self) -> bool:
        """Whether all of this host's ranks have come and gone, or some have and no other comes."""
        if self.running or not self.exit_codes:
            return False
        settled = time.monotonic() - self._idle_since > _SETTLE_S
        return settled or len(self.exit_codes) >= self._task.processes_per_host

    def poll(self) -> None:
        """Takes note of ranks that ended, kills those whose time is over."""
        for rank in self._ranks:
            if rank.process is None:
                continue
            code = rank.process.poll()
            if code is None:
                self._idle_since = time.monotonic()
                if rank.kill_at is not None and time.monotonic() > rank.kill_at:
                    rank.process.kill()
            elif rank.connection is not None:
                self._answer(rank, code)

    def terminate(self) -> None:
        """SIGTERM for every rank."""
        for rank in self._ranks:
            self._signal(rank)

    def close(self) -> None:
        """Stops listening and prints what ended ranks have left in their pipes."""
        self._selector.unregister(self._listener)
        self._listener.close()
        socket_path(self._task.sockets, self._task.host).unlink(missing_ok=True)
        if os.getppid() != self._task.emulator_pid:  # it was killed, so the last host clears up
            with contextlib.suppress(OSError):
                os.rmdir(self._task.sockets)
        for rank in self._ranks:
            while rank.output >= 0 and self._pump(rank):
                pass
            self._end_output(rank)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        rank = _Rank(connection)
        self._ranks.append(rank)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._receive(rank))

    def _receive(self, rank: _Rank) -> None:
        if rank.connection is None:
            return
        try:
            data = rank.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the proxy is gone: horovodrun has killed it, or the master is dead
            self._disconnect(rank)
            self._signal(rank)
            if rank.runs:
                rank.kill_at = time.monotonic() + _RANK_GRACE_S
            return
        *lines, rank.received = (rank.received + data).split(b"\n")
        for line in lines:
            if rank.process is None:
                self._start(rank, json.loads(line))
            else:
                self._signal(rank)

    def _start(self, rank: _Rank, asked: dict[str, str]) -> None:
        """Starts the entry point as a rank, with the variables that horovodrun gave its proxy."""
        rank.number = int(asked["HOROVOD_RANK"])
        place = {name.lower(): int(asked[f"HOROVOD_{name}"]) for name in _PLACE}
        variables = world_variables(**place, command=self._task.command, folder=self._task.code_dir)
        rank.output, inner = os.pipe()
        try:
            rank.process = subprocess.Popen(
                self._task.command,
                cwd=self._task.code_dir,
                env=self._environment | asked | variables | self._task.rank_variables,
                stdin=subprocess.DEVNULL,
                stdout=inner,
                stderr=inner,
            )
        finally:
            os.close(inner)
        os.set_blocking(rank.output, False)
        self._selector.register(rank.output, selectors.EVENT_READ, lambda: self._pump(rank))

    def _signal(self, rank: _Rank) -> None:
        if rank.runs and rank.process is not None:
            rank.told_to_end = True
            rank.process.terminate()

    def _answer(self, rank: _Rank, code: int) -> None:
        if rank.connection is not None:
            with contextlib.suppress(OSError):
                rank.connection.send(b"%d\n" % (128 - code if code < 0 else code))
        self._disconnect(rank)

    def _disconnect(self, rank: _Rank) -> None:
        if rank.connection is not None:
            self._selector.unregister(rank.connection)
            rank.connection.close()
            rank.connection = None

    def _pump(self, rank: _Rank) -> bool:
        """Prints what the rank has printed; False at the pipe's end or when it is empty for now."""
        try:
            data = os.read(rank.output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._end_output(rank)
            return False
        self._print(rank, rank.lines.feed(data))
        return True

    def _end_output(self, rank: _Rank) -> None:
        if rank.output >= 0:
            self._selector.unregister(rank.output)
            os.close(rank.output)
            rank.output = -1
            self._print(rank, rank.lines.flush())

    def _print(self, rank: _Rank, lines: list[bytes]) -> None:
        for line in lines:
            os.write(sys.stdout.fileno(), b"rank %d | %s\n" % (rank.number or 0, line))


def main(arguments: list[str]) -> int:
    """The proxy: has its rank's host run the rank, and ends as it ends.

    In two processes, because horovodrun ends a rank by SIGTERM to the children of what it started, and stops that
    (SIGSTOP) before it kills it.
    """
    folder, *hosts = arguments
    child = os.fork()
    if child == 0:
        os._exit(_proxy(folder, hosts))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _proxy(folder: str, hosts: list[str]) -> int:
    host = hosts[int(os.environ["HOROVOD_CROSS_RANK"])]
    asked = {name: value for name, value in os.environ.items() if name.startswith(("HOROVOD_", "NCCL_"))}
    connection = _connect(socket_path(folder, host), host)
    if connection is None:
        return 1
    with connection:
        connection.sendall(json.dumps(asked).encode() + b"\n")
        signal.signal(signal.SIGTERM, lambda *_: connection.send(b"end\n"))
        with connection.makefile() as answers:
            answer = answers.readline()
    if not answer:
        print(f"emulate: lost the connection to {host}", file=sys.stderr, flush=True)
        return 1
    return int(answer)


def _connect(path: Path, host: str) -> socket.socket | None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return connection
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                print(f"emulate: {host} takes no ranks at {path}: {error.strerror}", file=sys.stderr, flush=True)
                return None
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
