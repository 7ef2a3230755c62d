"""One emulated host: `python -m hetero_tfdata.emulate.host FILE`.

It plays PID 1 of the host's container: everything started below it stays below it, and ends with it. What SageMaker starts
in a container is the command `train` of sagemaker-training: either this process stands in for it, or it runs it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from hetero_tfdata.emulate import processes
from hetero_tfdata.emulate.ranks import START_TIMEOUT_S, RankServer, horovodrun_command, socket_path
from hetero_tfdata.emulate.task import HostTask

__all__ = ["HostProcess"]

# What the entry point left running is told to end, and killed after as long.
_LEFTOVER_GRACE_S = 5.0
_TICK_S = 0.5
_FAILURE_CHARACTERS = 1024  # what SageMaker shows of output/failure
_MARK = "[emulate]"  # begins this process's own lines in the host's log


class HostProcess:
    """Runs the entry point, or this host's part of the ranks, and notes how it ended as sagemaker-training does."""

    def __init__(self, task: HostTask) -> None:
        self._task = task
        self._selector = selectors.DefaultSelector()
        self._main: subprocess.Popen[bytes] | None = None
        self._ranks: RankServer | None = None
        self._telling_lines = ""  # how the log's lines begin that tell why it failed
        self._stop_asked = False
        self._kill_at: float | None = None  # set when the SIGTERM has been passed on
        # The toolkit hands all of its sys.path on, the job's own modules first, then the folder of its command. Not for this
        # process, which a module there could break.
        modules = sys.path if getattr(sys.flags, "safe_path", False) else sys.path[1:]  # the first is this program's folder
        path = [task.code_dir, sysconfig.get_path("scripts"), *modules]
        self._environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(path)}

    def run(self) -> int:
        """The exit code of the container: 0, 1 after any failure, 143 or 137 when it was stopped."""
        self._catch_signals()
        with processes.adopting_orphans():
            try:
                if self._task.is_toolkit:
                    failure = self._run_toolkit()
                else:
                    failure = self._run_ranks() if self._task.rank_hosts else self._run_entry_point()
            except OSError as error:
                failure = f"InternalError: {error}"
            finally:
                self._end_descendants()
        return self._report(failure)

    def _run_entry_point(self) -> str | None:
        self._start_main(self._task.command, self._environment, self._task.code_dir)
        self._until(lambda: self._main_ended)
        return self._failure(_shown(self._task.command), self._main_code)

    def _run_toolkit(self) -> str | None:
        self._start_main(self._task.command, dict(os.environ), "/")
        self._until(lambda: self._main_ended)
        return self._failure(_shown(self._task.command), self._main_code)

    def _run_ranks(self) -> str | None:
        """The master starts all ranks; the other hosts run theirs when asked."""
        self._ranks = RankServer(self._task, self._selector, self._environment)
        return self._start_ranks(self._ranks) if self._task.is_master else self._host_ranks(self._ranks)

    def _start_ranks(self, ranks: RankServer) -> str | None:
        others = [host for host in self._task.rank_hosts if host != self._task.host]
        if not self._until(lambda: not self._missing(others) or self._idle_stop, START_TIMEOUT_S):
            missing = ", ".join(self._missing(others))
            return f"ExecuteUserScriptError: {missing} did not come up in {_in_minutes(START_TIMEOUT_S)}"
        if self._stop_asked:
            return "stopped"
        # horovodrun puts all of its environment into one shell argument, whose length Linux limits to 128 KiB. The
        # ranks get the SM_* variables from their hosts.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
        self._start_main(horovodrun_command(self._task), environment, os.getcwd())
        self._until(lambda: self._main_ended)
        if self._main_code != 0 and ranks.own_failures:
            return self._rank_failure(ranks.own_failures)
        return self._failure("horovodrun", self._main_code, "a rank on another host failed: " if ranks.exit_codes else "")

    def _host_ranks(self, ranks: RankServer) -> str | None:
        master, expected = self._task.rank_hosts[0], self._task.processes_per_host
        self._say(f"waiting for {master} to start ranks here")
        if not self._until(lambda: ranks.running or bool(ranks.exit_codes) or self._idle_stop, START_TIMEOUT_S):
            return f"ExecuteUserScriptError: {master} started no rank here in {_in_minutes(START_TIMEOUT_S)}"
        self._until(lambda: ranks.finished or self._idle_stop)
        failed = {rank: code for rank, code in ranks.exit_codes.items() if code != 0}
        if failed:
            return self._rank_failure(ranks.own_failures or failed)
        if len(ranks.exit_codes) < expected:
            return f"ExecuteUserScriptError: {len(ranks.exit_codes)} of {expected} ranks ran to their end here"
        return None

    def _rank_failure(self, failed: dict[int, int]) -> str | None:
        for rank, code in sorted(failed.items()):
            self._telling_lines = f"rank {rank} | "
            return self._failure(_shown(self._task.command), code, f"rank {rank}: ")
        return None

    def _failure(self, command: str, code: int | None, where: str = "") -> str | None:
        if code == 0:
            return None
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        return f'ExecuteUserScriptError: {where}command "{command}" {how}'

    @property
    def _main_ended(self) -> bool:
        return self._main_code is not None

    @property
    def _main_code(self) -> int | None:
        return self._main.returncode if self._main is not None else None

    @property
    def _idle_stop(self) -> bool:
        """Whether there is nothing to wait for any more, because the stop came when nothing ran."""
        return self._stop_asked and self._main is None and not (self._ranks is not None and self._ranks.running)

    def _missing(self, hosts: list[str]) -> list[str]:
        return [host for host in hosts if not socket_path(self._task.sockets, host).exists()]

    def _start_main(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        self._say(f"running {shlex.join(command)}")
        self._main = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL)

    def _until(self, condition: Callable[[], bool], timeout_s: float = float("inf")) -> bool:
        """Serves events until the condition holds; False if it does not in time, or the stop's grace is over."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > min(deadline, self._kill_at or deadline):
                return False
            self._tick()
        return True

    def _tick(self, timeout_s: float = _TICK_S) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data()
        self._reap()
        if self._ranks is not None:
            self._ranks.poll()
        if self._stop_asked and self._kill_at is None:
            self._kill_at = time.monotonic() + self._task.stop_grace_s
            if self._main is not None:
                self._main.terminate()  # horovodrun passes it on to the ranks
            elif self._ranks is not None:
                self._ranks.terminate()

    def _catch_signals(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ, lambda: os.read(reading, 4096))
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # container.py holds it back until here
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the selector; SIG_IGN would be inherited

    def _on_sigterm(self, *_: object) -> None:
        self._stop_asked = True

    def _reap(self) -> None:
        """Takes the exit status of every ended child, adopted orphans included, as PID 1 must."""
        owned: dict[int, Callable[[], object]] = self._ranks.running_pids if self._ranks is not None else {}
        if self._main is not None and self._main.returncode is None:
            owned = owned | {self._main.pid: self._main.poll}
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                owned.get(ended.si_pid, lambda pid=ended.si_pid: os.waitpid(pid, 0))()

    def _end_descendants(self) -> None:
        """Ends what is left, as a container does; a host whose grace is over kills at once."""
        me = os.getpid()
        for process in processes.descendants(me) if not self._grace_is_over else ():
            with contextlib.suppress(ProcessLookupError, processes.psutil.NoSuchProcess):
                process.terminate()
        # The toolkit dies of a SIGTERM that it does not pass on: what it started has the host's whole grace.
        whole_grace = self._kill_at if self._task.is_toolkit else None
        deadline = whole_grace or time.monotonic() + _LEFTOVER_GRACE_S
        while not self._grace_is_over and time.monotonic() < deadline and processes.descendants(me):
            self._tick(0.05)
        processes.kill_until_none(lambda: processes.descendants(me))
        self._reap()
        if self._ranks is not None:
            self._ranks.close()

    @property
    def _grace_is_over(self) -> bool:
        return self._kill_at is not None and time.monotonic() > self._kill_at

    def _report(self, failure: str | None) -> int:
        output = Path(self._task.output_dir)
        if self._stop_asked and failure is not None:
            return 137 if self._grace_is_over else 143
        if self._task.is_toolkit:
            return processes.exit_code(self._main_code) if self._main_code is not None else 1
        if failure is None:
            self._note(output / "success", "")
            return 0
        reason = failure[: _FAILURE_CHARACTERS // 2]
        self._note(output / "failure", f"{reason}\n{self._last_lines(_FAILURE_CHARACTERS - len(reason) - 1)}")
        self._say(failure)
        return 1

    def _note(self, path: Path, text: str) -> None:
        """Writes the file if the script has not: its own reason is the better one."""
        with contextlib.suppress(FileExistsError, OSError), open(path, "x") as file:
            file.write(text)

    def _last_lines(self, characters: int) -> str:
        with open(self._task.log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 64 * _FAILURE_CHARACTERS))
            lines = log.read().decode("utf-8", "replace").splitlines()
        telling = [line for line in lines if line.startswith(self._telling_lines) and not line.startswith(_MARK)]
        return "\n".join(telling[-8:])[-characters:]

    def _say(self, text: str) -> None:
        os.write(sys.stdout.fileno(), f"{_MARK} {text}\n".encode())


def _shown(command: list[str]) -> str:
    return shlex.join([Path(command[0]).name, *command[1:]])


def _in_minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes"


def main(arguments: list[str]) -> int:
    """Reads the task, runs it."""
    task = HostTask.read(Path(arguments[0]))
    processes.bind_to_parent(task.emulator_pid)
    return HostProcess(task).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
