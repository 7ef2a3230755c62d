"""How the stand-in's variables look; tests/cluster/test_emulate.py compares them with sagemaker-training's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.emulate import Group, Job
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.variables import Variables, command_arguments, inherited
from hetero_tfdata.emulate.view import HostView

HYPERPARAMETERS: dict[str, Any] = {
    "epochs": 3,
    "learning-rate": 1e-05,
    "k": 7,
    "nesterov": True,
    "name": "run one",
    "layers": [1, "two"],
    "nested": {"b": 2, "a": 1},
    "nothing": None,
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "train.py").touch()
    groups = [Group("cpu", "ml.c5.xlarge", 2), Group("gpu", "ml.p4d.24xlarge", 2)]
    return Job(
        groups, tmp_path, "train.py", "gpu", 4, channels={"train": tmp_path}, hyperparameters=HYPERPARAMETERS, name="job"
    )


def variables(job: Job, name: str = "algo-10", view: HostView | None = None) -> Variables:
    placed = {"algo-1": "gpu", "algo-2": "cpu", "algo-9": "cpu", "algo-10": "gpu"}
    types = {group.name: group.instance_type for group in job.groups}
    hosts = tuple(
        Host(host, group, types[group], "127.0.0.1", 20000 + 100 * number)
        for number, (host, group) in enumerate(placed.items())
    )
    return Variables(job, hosts, next(host for host in hosts if host.name == name), view or HostView(Path("/base")))


def test_command_arguments_are_the_toolkits() -> None:
    mapping = pytest.importorskip("sagemaker_training.mapping")
    assert command_arguments(HYPERPARAMETERS) == mapping.to_cmd_args(HYPERPARAMETERS)
    assert command_arguments({"b": 1, "lr": 0.1, "on": False}) == ["-b", "1", "--lr", "0.1", "--on", "False"]


def test_the_resource_configuration_lists_hosts_as_sagemaker_does(job: Job) -> None:
    config = variables(job).resource_config()
    assert config["hosts"] == ["algo-1", "algo-10", "algo-2", "algo-9"]
    assert config["current_host"] == "algo-10"
    assert config["current_group_name"] == "gpu"
    assert config["current_instance_type"] == "ml.p4d.24xlarge"
    assert config["instance_groups"] == [
        {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-2", "algo-9"]},
        {"instance_group_name": "gpu", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-1", "algo-10"]},
    ]


def test_every_hyperparameter_is_encoded_as_json(job: Job) -> None:
    encoded = variables(job).hyperparameters()
    assert encoded["name"] == '"run one"'
    assert encoded["nesterov"] == "true"
    assert encoded["sagemaker_distribution_instance_groups"] == '["gpu"]'
    assert {key: json.loads(encoded[key]) for key in HYPERPARAMETERS} == HYPERPARAMETERS


@pytest.mark.parametrize("shared", [True, False])
def test_channels_are_the_same_path_on_every_host(job: Job, shared: bool) -> None:
    view = HostView(Path("/opt/ml"), shared_channels=shared)
    paths = {variables(job, host, view).environment()["SM_CHANNEL_TRAIN"] for host in ("algo-1", "algo-2")}
    assert paths == {str(job.channels["train"].folder) if shared else "/opt/ml/input/data/train"}


def test_a_host_is_told_what_its_isolation_sees(job: Job) -> None:
    view = HostView(Path("/opt/ml"), network_interface="eth0", variables={"HETERO_TFDATA_ADDRESSES": "{}"})
    told = variables(job, view=view).environment()
    assert (told["HETERO_TFDATA_ADDRESSES"], told["SM_NETWORK_INTERFACE_NAME"]) == ("{}", "eth0")
    assert (told["SM_MODULE_DIR"], told["SM_OUTPUT_DIR"]) == ("/opt/ml/code", "/opt/ml/output")
    assert "HETERO_TFDATA_ADDRESSES" not in variables(job).environment()


def test_without_a_distribution_there_is_no_mpi(job: Job) -> None:
    plain = Job(job.groups, job.source_dir, "train.py")
    told = variables(plain)
    assert told.environment()["SM_DISTRIBUTION_INSTANCE_GROUPS"] == "[]"
    assert not [key for key in told.hyperparameters() if "mpi" in key or "distribution" in key]


def test_a_callers_job_does_not_leak_into_the_hosts() -> None:
    leaking = ("SM_HOSTS", "SAGEMAKER_BASE_DIR", "OMPI_COMM_WORLD_RANK", "HOROVOD_RANK", "HETERO_TFDATA_ROLES", "TF_CONFIG")
    assert inherited({"PATH": "/bin", **dict.fromkeys([*leaking, "TRAINING_JOB_NAME", "AWS_REGION"], "x")}) == {"PATH": "/bin"}
