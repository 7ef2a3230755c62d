"""submit against moto: what is uploaded and created, what is asked for again, what a follower shows."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import boto3
import botocore.client
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from hetero_tfdata.cli import main
from hetero_tfdata.errors import ConfigurationError, JobError
from hetero_tfdata.plan.prices import PriceList
from hetero_tfdata.sagemaker import Group, Job
from hetero_tfdata.sagemaker.following import Follower
from hetero_tfdata.sagemaker.submission import Retries, is_capacity, submit

pytest.importorskip("sagemaker")

REGION, ROLE = "us-east-1", "arn:aws:iam::123456789012:role/training"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
GROUPS = (Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p4d.24xlarge", 1))
EPOCH = "hetero_tfdata: epoch {}: 100 steps, 86.0 ms/step, input wait 2.0 ms/step, input-bound 2.3 %, 95255.8 images/s"


@pytest.fixture
def aws(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "testing"), ("DEFAULT_REGION", REGION)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    # telemetry of the SDK would go to a host of its own
    monkeypatch.setattr("sagemaker.telemetry.telemetry_logging._send_telemetry_request", lambda *_, **__: None)
    with mock_aws():
        yield


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "launcher.py").write_text("print()\n")
    return tmp_path


@pytest.fixture
def job(folder) -> Job:
    return Job(folder, GROUPS, name="cifar", distribution="dnn_group", role=ROLE)


def refusing(monkeypatch, *codes: str) -> list[str]:
    """CreateTrainingJob is refused with these codes, one after the other, then accepted; the names that were asked for."""
    real, left, names = botocore.client.BaseClient._make_api_call, list(codes), []

    def call(client, operation, parameters):
        if operation == "CreateTrainingJob":
            names.append(parameters["TrainingJobName"])
            if left:
                raise ClientError({"Error": {"Code": left.pop(0), "Message": "none of\nthem"}}, operation)
        return real(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    return names


def test_the_job_is_created_and_its_source_uploaded(aws, job):
    submitted = submit(job, boto3.Session(), log=lambda line: None)
    told = boto3.client("sagemaker").describe_training_job(TrainingJobName=submitted.name)
    assert [one["InstanceGroupName"] for one in told["ResourceConfig"]["InstanceGroups"]] == ["data_group", "dnn_group"]
    place = json.loads(told["HyperParameters"]["sagemaker_submit_directory"])
    bucket, _, key = place.removeprefix("s3://").partition("/")
    assert boto3.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0


def test_what_has_no_capacity_is_asked_for_again_under_a_new_name(aws, job, monkeypatch):
    names = refusing(monkeypatch, "ResourceLimitExceeded", "CapacityError")
    waits, said = [], []
    submitted = submit(job, boto3.Session(), log=said.append, sleep=waits.append)
    assert submitted.attempt == 3
    assert len(set(names)) == 3
    assert waits == [60.0, 120.0]
    assert "no capacity (ResourceLimitExceeded: none of them)" in said[0]


def test_patience_ends(aws, job, monkeypatch):
    refusing(monkeypatch, *["CapacityError"] * 9)
    with pytest.raises(JobError, match="no capacity at 2 attempts"):
        submit(job, boto3.Session(), retries=Retries(2), log=lambda line: None, sleep=lambda seconds: None)


def test_what_is_refused_is_not_asked_for_again(aws, job, monkeypatch):
    names = refusing(monkeypatch, "ValidationException")
    with pytest.raises(ConfigurationError, match="AWS refuses the job: ValidationException: none of them"):
        submit(job, boto3.Session(), log=lambda line: None)
    assert len(names) == 1


def test_a_mistake_uploads_nothing(aws, folder, monkeypatch):
    asked = []
    real = botocore.client.BaseClient._make_api_call
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", lambda *call: asked.append(call[1]) or real(*call))
    with pytest.raises(ConfigurationError, match="expected an execution role"):
        submit(Job(folder, GROUPS, distribution="dnn_group"), boto3.Session(), log=print)
    (folder / "job.toml").write_text('[groups.a]\ninstance_type = "ml.c5.17xlarge"\n')
    assert main(["submit", str(folder)]) == 2
    assert asked == []


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("CapacityError: Unable to provision requested ML compute capacity.", True),
        ("ClientError: Please use an instance type with more memory", False),
        ("", False),
    ],
)
def test_capacity_is_told_from_mistakes(reason, expected):
    assert is_capacity(reason) is expected


def test_a_follower_shows_states_lines_by_group_steps_and_cost(aws, job, monkeypatch):
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=LOG_GROUP)
    for host, group in (("algo-1", "dnn_group"), ("algo-2", "data_group")):
        stream = {"logGroupName": LOG_GROUP, "logStreamName": f"cifar-1/{host}-1669999999"}
        logs.create_log_stream(**stream)
        lines = [f'    "current_instance_group": "{group}",', *(EPOCH.format(number) for number in (1, 2) if host == "algo-1")]
        now_ms = int(time.time() * 1000)
        logs.put_log_events(**stream, logEvents=[{"timestamp": now_ms, "message": line} for line in lines])
    states = iter(
        [
            {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"},
            {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"},
            {"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed", "BillableTimeInSeconds": 3600},
        ]
    )
    sagemaker = SimpleNamespace(describe_training_job=lambda TrainingJobName: next(states))
    out: list[str] = []
    follower = Follower(job, "cifar-1", sagemaker, logs, out.append)
    told = follower.run(sleep=lambda seconds: None)
    assert [line for line in out if line.startswith("cifar-1: ")] == [
        "cifar-1: Starting",
        "cifar-1: Training",
        "cifar-1: Completed",
    ]
    assert sum("algo-1 (dnn_group) | hetero_tfdata: epoch" in line for line in out) == 2, "each line once"
    assert any(line.startswith("algo-2 (data_group) | ") for line in out)
    assert follower.summary(told, PriceList.of("2022")) == [
        "cifar-1: Completed",
        "86.0 ms a step, of which 2.0 ms wait for input; 95,255.8 images/s",
        "3,600 s at $45.032 an hour: $45.03 (the published article (AWS, 2022, us-east-1))",
    ]


def test_a_price_that_nobody_knows_is_no_guess(job):
    told = {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError:\nexit 1", "TrainingTimeInSeconds": 60}
    other = Job(job.source_dir, (Group("a", "ml.c5n.18xlarge", 1),))
    lines = Follower(other, "x", None, None).summary(told, PriceList.of("2022"))
    assert lines[1] == "reason: AlgorithmError: exit 1"
    assert "ml.c5n.18xlarge has no price in 2022" in lines[2]


def test_submit_and_wait(aws, job, folder, monkeypatch, capsys):
    """moto's job has ended as soon as it is there."""
    (folder / "job.toml").write_text(
        f'role = "{ROLE}"\n[groups.data_group]\ninstance_type = "ml.c5.18xlarge"\n[groups.dnn_group]\n'
        'instance_type = "ml.p4d.24xlarge"\n[distribution]\ngroup = "dnn_group"\n'
    )
    assert main(["submit", str(folder), "--wait"]) == 0
    out = capsys.readouterr()
    assert ": Completed" in out.out
    assert "is created (attempt 1 of 6)" in out.err
