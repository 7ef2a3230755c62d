from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from hetero_tfdata.emulate import Group, Job, hosts
from hetero_tfdata.emulate.files import RunFolder
from hetero_tfdata.emulate.process_isolation import ProcessIsolation
from hetero_tfdata.errors import PortInUseError


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "train.py").touch()
    groups = [Group("cpu", "ml.c5.xlarge", 8), Group("gpu", "ml.p4d.24xlarge", 4)]
    return Job(groups, tmp_path, "train.py", distribution="gpu")


def groups_of(placed: tuple[hosts.Host, ...]) -> list[str]:
    return [host.group for host in placed]


def test_hosts_are_assigned_to_groups_at_random_and_a_seed_repeats_it(job: Job) -> None:
    assert groups_of(hosts.place(job, seed=3)) == groups_of(hosts.place(job, seed=3))
    assignments = {tuple(groups_of(hosts.place(job))) for _ in range(5)}
    assert len(assignments) > 1
    for assignment in assignments:
        assert sorted(assignment) == ["cpu"] * 8 + ["gpu"] * 4


def test_hosts_stand_in_natural_order_and_the_master_is_the_first_in_sagemakers(job: Job) -> None:
    placed = hosts.place(job, seed=0)
    assert [host.name for host in placed] == [f"algo-{number}" for number in range(1, 13)]
    assert hosts.master(job, placed) == sorted(host.name for host in placed if host.group == "gpu")[0]


def test_hosts_of_process_isolation_know_each_others_ports(job: Job, tmp_path: Path) -> None:
    placed = hosts.place(job)
    with RunFolder.claim(tmp_path / "out", job) as folder, ProcessIsolation().prepared(job, placed, folder) as site:
        told = {site.view(host).variables["HETERO_TFDATA_ADDRESSES"] for host in placed}
        assert [json.loads(text) for text in told] == [{host.name: f"127.0.0.1:{host.first_port}" for host in placed}]
        assert site.view(placed[0]).variables["SAGEMAKER_BASE_DIR"] == str(folder.base_dir("algo-1"))


def test_each_host_has_a_block_of_ports_below_the_ephemeral_range(job: Job) -> None:
    first_ports = [host.first_port for host in hosts.place(job)]
    assert len(set(first_ports)) == 12
    assert all(port % 100 == 0 and 20000 <= port <= hosts._ephemeral_start() - 100 for port in first_ports)


def test_a_block_is_taken_until_its_run_is_over(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nobody listens there yet: two emulators that start together get different blocks."""
    one = Job([Group("cpu", "ml.c5.xlarge", 1)], job.source_dir, "train.py")
    two = Job([Group("cpu", "ml.c5.xlarge", 2)], job.source_dir, "train.py")
    pairs = ([host.first_port for host in hosts.place(two)] for _ in range(50))
    first = next(low for low, high in pairs if high == low + 100)
    monkeypatch.setattr(hosts, "FIRST_PORT", first)
    monkeypatch.setattr(hosts, "_ephemeral_start", lambda: first + 200)
    isolation = ProcessIsolation()
    placed = isolation.place(one, None)
    others: list[socket.socket] = []
    with RunFolder.claim(tmp_path / "out", one) as folder, isolation.prepared(one, placed, folder):
        (other,) = hosts.place(one, held=others)
        assert {placed[0].first_port, other.first_port} == {first, first + 100}
        with pytest.raises(PortInUseError):
            hosts.place(one)
    for own in others:
        own.close()
    assert hosts.place(one)


def test_a_block_with_a_listener_is_not_given_away(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    free = hosts.place(Job([job.groups[0]], job.source_dir, "train.py"))
    first = max(host.first_port for host in free)
    monkeypatch.setattr(hosts, "FIRST_PORT", first)
    monkeypatch.setattr(hosts, "_ephemeral_start", lambda: first + 200)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", first + 7))
        taken.listen()
        with pytest.raises(PortInUseError, match=rf"need 12 free blocks of 100 ports, found [01] in {first}-{first + 199}"):
            hosts.place(job)
