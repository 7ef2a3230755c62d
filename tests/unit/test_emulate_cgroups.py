"""Control groups as folders of plain files: where they are found and what is written, for versions 1 and 2.

tests/cluster/test_namespaces.py runs hosts in the real ones of this machine, whichever version that has.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hetero_tfdata.emulate.cgroups import ControlGroup, Hierarchies, remove
from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.errors import ConfigurationError

HALF = Limits(cpus=0.5, memory_bytes=1 << 30)


def proc(tmp_path: Path, mounts: dict[str, str], own: list[str]) -> Path:
    """A /proc/self: mount point -> "root kind options"."""
    folder = tmp_path / "proc"
    folder.mkdir()
    lines = []
    for point, text in mounts.items():
        root, kind, options = text.split()
        shown = str(tmp_path / point).replace(" ", "\\040")
        lines.append(f"33 24 0:28 {root} {shown} rw,nosuid shared:9 - {kind} {kind} rw,{options}\n")
    (folder / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "".join(lines))
    (folder / "cgroup").write_text("".join(f"{line}\n" for line in own))
    return folder


def test_version_1_has_a_folder_in_each_hierarchy(tmp_path: Path) -> None:
    for name in ("cpu,cpuacct/user.slice", "memory", "freezer"):
        (tmp_path / name).mkdir(parents=True)
    mounts = {"cpu,cpuacct": "/ cgroup cpu,cpuacct", "memory": "/ cgroup memory", "freezer": "/ cgroup freezer"}
    own = ["3:cpu,cpuacct:/user.slice", "2:memory:/", "1:freezer:/", "0::/user.slice"]
    hierarchies = Hierarchies.find(proc(tmp_path, mounts, own))
    assert hierarchies.version == 1
    cpu, memory = tmp_path / "cpu,cpuacct" / "user.slice" / "run", tmp_path / "memory" / "run"
    assert set(hierarchies.folders("run", ["algo-1"])) == {cpu / "algo-1", memory / "algo-1", cpu, memory}
    groups = hierarchies.make("run", ["algo-1", "algo-2"])
    group = groups["algo-1"]
    assert set(group.folders) == {str(cpu / "algo-1"), str(memory / "algo-1")}
    assert set(group.binds) == {
        (str(cpu / "algo-1"), str(tmp_path / "cpu,cpuacct")),
        (str(memory / "algo-1"), str(tmp_path / "memory")),
    }
    assert (cpu / "cpu.shares").read_text() == "2048"
    (memory / "algo-1" / "memory.memsw.limit_in_bytes").touch()
    group.limit(HALF)
    assert (cpu / "algo-1" / "cpu.cfs_period_us").read_text() == "20000"
    assert (cpu / "algo-1" / "cpu.cfs_quota_us").read_text() == "10000"
    assert (memory / "algo-1" / "memory.limit_in_bytes").read_text() == str(1 << 30)
    assert (memory / "algo-1" / "memory.memsw.limit_in_bytes").read_text() == str(1 << 30)
    group.limit(Limits(memory_bytes=1 << 30))
    assert (cpu / "algo-1" / "cpu.cfs_quota_us").read_text() == "-1"
    (cpu / "algo-1" / "cpuacct.usage").write_text("2500000000\n")
    assert group.cpu_s() == 2.5


def test_version_2_goes_up_to_the_group_that_gives_its_children_the_controllers(tmp_path: Path) -> None:
    top = tmp_path / "cgroup fs"
    session = top / "user.slice" / "session-1.scope"
    session.mkdir(parents=True)
    for folder, given in ((top, "cpu memory pids"), (top / "user.slice", "cpu memory"), (session, "")):
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
        (folder / "cgroup.subtree_control").write_text(f"{given}\n")
    own = ["0::/user.slice/session-1.scope"]
    hierarchies = Hierarchies.find(proc(tmp_path, {"cgroup fs": "/ cgroup2 nsdelegate"}, own))
    hierarchies.require([HALF])
    group = hierarchies.make("run", ["algo-1"])["algo-1"]
    run = top / "user.slice" / "run"
    assert group.folders == (str(run / "algo-1"),)
    assert group.binds == ((str(run / "algo-1"), str(top)),)
    assert (run / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (run / "cpu.weight").read_text() == "100"
    (run / "algo-1" / "memory.swap.max").touch()
    group.limit(HALF)
    assert (run / "algo-1" / "cpu.max").read_text() == "10000 20000"
    assert (run / "algo-1" / "memory.max").read_text() == str(1 << 30)
    assert (run / "algo-1" / "memory.swap.max").read_text() == "0"
    group.limit(Limits())
    assert (run / "algo-1" / "cpu.max").read_text() == "max 20000"
    (run / "algo-1" / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\n")
    assert group.cpu_s() == 2.5


def test_version_2s_topmost_group_is_asked_for_the_controllers(tmp_path: Path) -> None:
    top = tmp_path / "cgroup"
    top.mkdir()
    (top / "cgroup.controllers").write_text("cpu memory\n")
    (top / "cgroup.subtree_control").write_text("\n")
    Hierarchies.find(proc(tmp_path, {"cgroup": "/ cgroup2 rw"}, ["0::/"]))
    assert (top / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_a_mount_that_shows_a_container_its_own_group_is_where_that_group_is(tmp_path: Path) -> None:
    (tmp_path / "cpu" / "inner").mkdir(parents=True)
    own = ["1:cpu,cpuacct:/docker/0123/inner"]
    hierarchies = Hierarchies.find(proc(tmp_path, {"cpu": "/docker/0123 cgroup cpu,cpuacct"}, own))
    assert hierarchies.folders("run", []) == [tmp_path / "cpu" / "inner" / "run"]


def test_limits_that_no_controller_can_set_are_refused(tmp_path: Path) -> None:
    unified = {"unified": "/ cgroup2 rw"}
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cgroup.controllers").write_text("hugetlb\n")
    (tmp_path / "unified" / "cgroup.subtree_control").write_text("\n")
    hierarchies = Hierarchies.find(proc(tmp_path, unified, ["0::/"]))
    hierarchies.require([Limits(link_gbps=1.0)])
    with pytest.raises(ConfigurationError, match=r"cpu controller, .*no group from .*unified to .*unified gives it"):
        hierarchies.require([HALF])
    assert hierarchies.make("run", ["algo-1"]) == {}
    assert hierarchies.folders("run", ["algo-1"]) == []


def test_groups_are_removed_from_within(tmp_path: Path) -> None:
    (tmp_path / "run" / "algo-1").mkdir(parents=True)
    remove([tmp_path / "run" / "algo-1", tmp_path / "run" / "algo-2", tmp_path / "run"])
    assert list(tmp_path.iterdir()) == []


def test_a_quota_is_never_below_the_kernels_least(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    hierarchies = Hierarchies.find(proc(tmp_path, {"cpu": "/ cgroup cpu,cpuacct"}, ["1:cpu,cpuacct:/"]))
    group: ControlGroup = hierarchies.make("run", ["algo-1"])["algo-1"]
    group.limit(Limits(cpus=0.01))
    assert (tmp_path / "cpu" / "run" / "algo-1" / "cpu.cfs_quota_us").read_text() == "1000"
