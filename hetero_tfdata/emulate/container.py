"""The beginning of a host with namespaces of its own: `python -m hetero_tfdata.emulate.container SPACE TASK FD`.

This process stays outside, waits for the host's first process and ends as that ended. The first process is PID 1 of the
host: it furnishes the host with mounts, then does what the host does under process isolation. When it ends, for whatever
reason, the kernel ends every process of the host; and it ends with this process, which ends with the emulator.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from hetero_tfdata.emulate import disk, processes, syscalls
from hetero_tfdata.emulate.host import HostProcess
from hetero_tfdata.emulate.space import Folder, Space
from hetero_tfdata.emulate.task import HostTask

__all__ = ["main", "recompose"]

_CGROUPS = "/sys/fs/cgroup"


def main(arguments: list[str]) -> int:
    """Makes the namespaces, starts PID 1, tells its process id on the file descriptor, waits for it."""
    space, task, report = Space.read(Path(arguments[0])), HostTask.read(Path(arguments[1])), int(arguments[2])
    processes.bind_to_parent(space.emulator_pid, signal.SIGKILL)
    # A SIGTERM that comes now waits until PID 1 can take it: the kernel drops it for a PID 1 without handler and mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    output = os.open(space.output_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        for folder in space.control_groups:
            Path(folder, "cgroup.procs").write_text("0")
        syscalls.setns(space.network, syscalls.CLONE_NEWNET)
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID)
    except OSError as error:
        return _note_failure(output, space, error)
    waiting, starting = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(report)
        os.close(starting)
        os._exit(_first_process(space, task, waiting, output))
    os.write(report, b"%d\n" % first)
    for descriptor in (report, waiting, output):
        os.close(descriptor)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.write(starting, b"+")
    _, status = os.waitpid(first, 0)
    return processes.exit_code(os.waitstatus_to_exitcode(status))


def _first_process(space: Space, task: HostTask, waiting: int, output: int) -> int:
    try:
        processes.die_with_parent(signal.SIGKILL)
        if not os.read(waiting, 1):
            return 1  # the parent died before the line above
        os.close(waiting)
        try:
            furnish(disk.in_memory(space) if task.own_disk else space)
        except OSError as error:
            return _note_failure(output, space, error)
        os.close(output)
        os.chdir("/")
        with disk.apart(Path(task.output_dir).parent) if task.own_disk else contextlib.nullcontext():
            return HostProcess(task).run()
    except BaseException:
        traceback.print_exc()
        return 1


def furnish(space: Space) -> None:
    """Makes this process's mount namespace the host's own."""
    socket.sethostname(space.host)
    syscalls.private_mounts()
    # Opened before a folder of the host's own hides them.
    sources = [(os.open(source, os.O_PATH), target) for source, target in space.binds]
    for folder in space.folders:
        recompose(folder)
    for number, path in enumerate(space.layers):
        _cover(path, f"/run/layer-{number}")
    _fresh_sys()
    for source, target in sources:
        syscalls.bind(f"/proc/self/fd/{source}", target)
        os.close(source)
    for target in space.read_only:
        syscalls.make_read_only(target)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)


def recompose(folder: Folder) -> None:
    """Puts a new folder over one of the machine, with what is to be kept of it."""
    kept = [(path, os.readlink(path) if os.path.islink(path) else None) for path in folder.keep]
    opened = {path: os.open(path, os.O_PATH) for path, link in kept if link is None}
    if folder.backing is not None:
        syscalls.bind(folder.backing, folder.path)
        os.chmod(folder.path, folder.mode)
    else:
        syscalls.mount("tmpfs", folder.path, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"mode={folder.mode:o}")
    for path, link in kept:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if link is not None:
            os.symlink(link, path)
            continue
        source = f"/proc/self/fd/{opened[path]}"
        if os.path.isdir(source):
            os.makedirs(path, exist_ok=True)
        else:
            Path(path).touch()
        syscalls.bind(source, path)
        os.close(opened[path])
    for name in folder.make:
        os.makedirs(os.path.join(folder.path, name), exist_ok=True)


def _cover(path: str, memory: str) -> None:
    """Puts a layer over a folder, which takes what is changed there."""
    os.mkdir(memory)
    syscalls.mount("tmpfs", memory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    changed, work = f"{memory}/changed", f"{memory}/work"
    for folder in (changed, work):
        os.mkdir(folder)
    syscalls.mount("overlay", path, "overlay", 0, f"lowerdir={path},upperdir={changed},workdir={work}")


def _fresh_sys() -> None:
    """/sys shows the host's own network interfaces; the control groups stay where they are."""
    groups = os.open(_CGROUPS, os.O_PATH) if os.path.isdir(_CGROUPS) else None
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC | syscalls.MS_RDONLY
    # A kernel may refuse it to a user namespace; then the machine's stays, which costs /sys/class/net alone.
    with contextlib.suppress(PermissionError):
        syscalls.mount("sysfs", "/sys", "sysfs", flags)
        if groups is not None:
            syscalls.bind(f"/proc/self/fd/{groups}", _CGROUPS)
    if groups is not None:
        os.close(groups)


def _note_failure(output: int, space: Space, error: OSError) -> int:
    """Says why the host did not start, in the folder's file `failure` as well, which no mount hides."""
    reason = f"InternalError: {space.host} can't be set up: {error.strerror or error}"
    print(f"[emulate] {reason}", flush=True)
    with contextlib.suppress(OSError):
        file = os.open("failure", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=output)
        os.write(file, reason.encode())
        os.close(file)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
